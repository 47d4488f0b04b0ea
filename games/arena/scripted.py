"""The traditional AI: what games ship, one for each archetype, in five degrees.

It strikes what is nearest, walks straight in, heals late, seldom blocks, spends mana on what is at
hand and aims at where its target is. Degree 2 is that; 0 and 1 also hesitate and aim badly; 3 and 4
strike the weakest, lead their aim and heal earlier.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from games.arena import rules
from games.arena.blows import Marks, marks
from games.arena.world import Arena, Orders

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

# By archetype: aggressive, defensive, support, mage, tank, ranged.
BLOCKS: Final = np.array([0.02, 0.15, 0.04, 0.02, 0.15, 0.02], np.float32)
"""Share of its steps in reach that it blocks in."""
TAUNTS: Final = np.array([0.08, 0.0, 0.0, 0.0, 0.15, 0.0], np.float32)
HEAVIES: Final = np.array([0.1, 0.05, 0.0, 0.3, 0.05, 0.1], np.float32)
HEALS_BELOW: Final = np.array([0.1, 0.2, 0.35, 0.15, 0.15, 0.1], np.float32)
SKILL: Final = np.array(
    [rules.BOLT, rules.WARD, rules.MEND, rules.BOLT, rules.SNARE, rules.BOLT], np.int64
)
"""What it casts whenever it can."""
OTHER: Final = np.array(
    [rules.NOVA, rules.SNARE, rules.BOLT, rules.NOVA, rules.BOLT, rules.SNARE], np.int64
)
"""What it casts when it cannot cast that."""
ENGAGED: Final = 10.0
"""It casts when an enemy is so near ..."""
MENDS_BELOW: Final = 0.7
"""... and mends who has less than this share of hit points."""
_HESITATES: Final = np.array([0.45, 0.2, 0.0, 0.0, 0.0], np.float32)
_AIM_NOISE: Final = np.array([0.5, 0.25, 0.0, 0.0, 0.0], np.float32)
_LEADS: Final = np.array([0.0, 0.0, 0.0, 0.5, 0.9], np.float32)
_FOCUSES: Final = np.array([0.0, 0.0, 0.0, 0.5, 1.0], np.float32)
_HEALS_MORE: Final = np.array([0.0, 0.0, 0.0, 0.15, 0.3], np.float32)


def scripted(arena: Arena, degree: Ints) -> Orders:
    """Return what everyone does.

    Args:
        arena: the matches.
        degree: i64[2, 1, W], 0 to 4: how well each side plays.
    """
    luck, mark = arena.luck(4), marks(arena)
    awake = luck[0] >= _HESITATES[degree]
    combat = np.where(awake, _combat(arena, mark, degree, luck), 0)
    return Orders(
        combat,
        np.where(awake, _move(arena), 0),
        np.where(awake, _skill(arena, mark, degree), 0),
        _aim(arena, mark, degree, luck),
    )


def _combat(arena: Arena, mark: Marks, degree: Ints, luck: Floats) -> Ints:
    """Draw from `combat_odds` (hesitation apart), without making the whole table."""
    kind = arena.kind
    mana = arena.mana
    strike = np.where(luck[2] < _FOCUSES[degree], rules.WEAKEST, rules.NEAREST)
    heavy = (luck[1] < HEAVIES[kind]) & (mana >= rules.HEAVY_COST)
    chosen = np.where(heavy, rules.HEAVY, strike)
    draw = 1.0 - luck[1]
    taunts = (draw <= BLOCKS[kind] + TAUNTS[kind]) & (mana >= rules.TAUNT_COST)
    chosen = np.where(taunts & (TAUNTS[kind] > 0), rules.TAUNT, chosen)
    chosen = np.where(draw <= BLOCKS[kind], rules.BLOCK, chosen)
    chosen = np.where(arena.sight().nearest <= arena.stat["reach"], chosen, rules.WAIT)
    return np.where(_heals(arena, mark, degree), rules.HEAL, chosen)


def combat_odds(arena: Arena, degree: Ints) -> Floats:
    """f32[10, 2, 5, W]: how likely each combat action is."""
    kind, mana = arena.kind, arena.mana
    odds = np.zeros((len(rules.COMBAT), *kind.shape), np.float32)
    odds[rules.BLOCK] = BLOCKS[kind]
    odds[rules.TAUNT] = np.where(mana >= rules.TAUNT_COST, TAUNTS[kind], 0.0)
    odds[rules.HEAVY] = np.where(mana >= rules.HEAVY_COST, HEAVIES[kind], 0.0)
    rest = 1.0 - odds.sum(axis=0)
    focus = _FOCUSES[degree]
    odds[rules.WEAKEST], odds[rules.NEAREST] = focus * rest, (1.0 - focus) * rest
    _surely(odds, arena.sight().nearest > arena.stat["reach"], rules.WAIT)
    _surely(odds, _heals(arena, marks(arena), degree), rules.HEAL)
    idle = _HESITATES[degree]
    odds *= 1.0 - idle
    odds[rules.WAIT] += idle
    _surely(odds, ~arena.alive, rules.WAIT)
    return odds


def _surely(odds: Floats, where: Flags, action: int) -> None:
    odds *= ~where
    odds[action] += where


def _heals(arena: Arena, mark: Marks, degree: Ints) -> Flags:
    below = HEALS_BELOW[arena.kind] + _HEALS_MORE[degree]
    late: Flags = (_hurt(arena, mark) < below) & (arena.mana >= rules.HEAL_COST)
    return late


def _hurt(arena: Arena, mark: Marks) -> Floats:
    """[2, 5, W]: share of hit points of the most hurt ally about."""
    share = (arena.hp / arena.stat["hit_points"]).ravel()
    found: Floats = share[arena.friend + np.minimum(mark.hurt, rules.PACK - 1) * arena.n]
    return found


def _move(arena: Arena) -> Ints:
    """Straight to the nearest enemy until it is in reach."""
    sight = arena.sight()
    first = sight.order[:, :, 0]
    index = first[:, :, None]
    dx = np.take_along_axis(sight.dx, index, axis=2)[:, :, 0]
    dy = np.take_along_axis(sight.dy, index, axis=2)[:, :, 0]
    near = sight.nearest <= 0.9 * arena.stat["reach"]
    return np.where(near, 0, towards(dx, dy))


def towards(dx: Floats, dy: Floats) -> Ints:
    """Return the move whose direction is nearest to a way."""
    eighth = np.arctan2(dy, dx) * np.float32(4 / np.pi)
    direction: Ints = np.rint(eighth).astype(np.int64) % 8 + 1
    return direction


def _skill(arena: Arena, mark: Marks, degree: Ints) -> Ints:
    legal = arena.legal("skill")
    first, second = SKILL[arena.kind], OTHER[arena.kind]
    mends = _hurt(arena, mark) < MENDS_BELOW + _HEALS_MORE[degree]
    may = np.take_along_axis(legal, first[None], axis=0)[0] & ((first != rules.MEND) | mends)
    engaged = arena.sight().nearest <= ENGAGED
    may &= engaged
    other = np.take_along_axis(legal, second[None], axis=0)[0] & engaged
    return np.where(may, first, np.where(other, second, 0))


def _aim(arena: Arena, mark: Marks, degree: Ints, luck: Floats) -> Floats:
    leads, noise = _LEADS[degree], _AIM_NOISE[degree]
    aim = leads * right_aim(arena, mark.seen)
    aim = aim + noise * (2.0 * luck[2:4] - 1.0)
    bounded: Floats = np.clip(aim, -1.0, 1.0).astype(np.float32)
    return bounded


def right_aim(arena: Arena, target: Ints) -> Floats:
    """[2, 2, 5, W]: where to aim at enemies that go on as they went."""
    place = arena.foe + np.minimum(target, rules.PACK - 1) * arena.n
    lead, sway = arena.stat["lead"], arena.stat["sway"]
    ways = zip((arena.vx, arena.vy), arena.gale(), strict=True)
    parts = [lead * arena.turn * v.ravel()[place] - sway * gale for v, gale in ways]
    return np.stack(parts).astype(np.float32) / np.float32(rules.AIM_SPAN)
