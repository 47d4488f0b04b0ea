"""What comes of a step's orders: heals and wards, moves, blows, and the facts that tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from games.arena import rules
from games.arena.sight import slot_of_least
from schemas.practice import ARCHETYPES

if TYPE_CHECKING:
    from games.arena.world import Arena, Orders

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
Facts = dict[str, Floats]
"""[2, 5, W] each: what a step brought an actor; docs/games/arena.md has the list."""

P = rules.PACK
_SLOT = np.arange(P, dtype=np.int64)[None, None, :, None]
_COST = np.zeros(len(rules.COMBAT), np.float32)
_COST[[rules.HEAVY, rules.HEAL, rules.TAUNT]] = rules.HEAVY_COST, rules.HEAL_COST, rules.TAUNT_COST
_BLOW = np.zeros(len(rules.COMBAT), np.float32)
_BLOW[1:5], _BLOW[rules.HEAVY] = 1.0, rules.HEAVY_FACTOR
_MAGE = ARCHETYPES.index("mage")
_NEAR_LOW = np.array([-1, -1, -1, 5, -1, 7], np.float32)
_NEAR_HIGH = np.array([-1, -1, -1, 10, -1, 12], np.float32)
"""From where the archetypes that are to keep their distance should strike."""


class Marks(NamedTuple):
    """Whom each actor would strike or tend; slots, 7 for nobody."""

    seen: Ints
    """The nearest, a taunting one before others."""
    weakest: Ints
    focused: Ints
    dangerous: Ints
    hurt: Ints
    """The most hurt of the own pack in reach of a heal."""


def marks(arena: Arena) -> Marks:
    """Return the marks of the moment."""
    s = arena.sight()
    reach, foe = s.in_reach, slice(None, None, -1)
    calm = 8.0 - arena.aggro[foe, None]
    share = arena.hp / arena.stat["hit_points"]
    return Marks(
        slot_of_least(s.dist + calm, s.dist < 50.0),
        slot_of_least(np.broadcast_to(arena.hp[foe, None], s.dist.shape), reach),
        slot_of_least(s.dist + 64.0 * (5 - arena.beset[foe, None]), reach),
        slot_of_least(500.0 - arena.dealt[foe, None] + 0.1 * s.dist, reach),
        slot_of_least(np.broadcast_to(4.0 * share[:, None], s.dist.shape), s.ally <= 8.0),
    )


def fall(arena: Arena, orders: Orders) -> Facts:
    """Carry a step's orders out and return its facts; the orders are legal ones."""
    alive, prior = arena.alive, arena.dealt > 0
    mark, sight = marks(arena), arena.sight()
    arena.mana -= _COST[orders.combat]
    cast = np.where(rules.SKILL_COST[orders.skill] <= arena.mana, orders.skill, 0)
    cost: Floats = rules.SKILL_COST[cast]
    arena.mana -= cost
    for skill in range(1, len(rules.SKILLS)):
        pause = arena.step_no + rules.SKILL_PAUSE[skill]
        np.copyto(arena.ready[skill], pause, where=cast == skill)
    facts = _tend(arena, orders.combat, cast, mark)
    arena.walk(orders.move)
    weapon, spells, struck = _thrown(arena, orders, cast, mark)
    facts |= _land(arena, weapon, spells, orders.combat == rules.BLOCK, alive)
    facts["mana_efficiency"] = (facts["spell_damage"] / np.maximum(cost, 1)).astype(np.float32)
    _far(facts, arena, struck, sight.dist, prior)
    _attention(facts, arena, orders.combat, struck, mark, cast)
    arena.mana += arena.stat["mana_step"] * (1 + rules.WAIT_MANA * (orders.combat == rules.WAIT))
    np.minimum(arena.mana, arena.stat["mana"], out=arena.mana)
    return facts


def _at(arena: Arena, flat: Ints, weights: Floats) -> Floats:
    """[2, 5, W]: numbers added up at the places they name."""
    size = 2 * P * arena.n
    found = np.bincount(flat.ravel(), weights.ravel(), minlength=size)[:size]
    total: Floats = found.reshape(2, P, arena.n).astype(np.float32)
    return total


def _tend(arena: Arena, combat: Ints, cast: Ints, mark: Marks) -> Facts:
    """Let heals, wards, rallies and snares begin."""
    stat = arena.stat
    heal = np.where(combat == rules.HEAL, stat["heal"], 0.0)
    mend = np.where(cast == rules.MEND, rules.MEND_HEALS * stat["heal"] / 10.0, 0.0)
    given = heal + mend
    place = arena.friend + np.minimum(mark.hurt, P - 1) * arena.n
    asked = _at(arena, place, given)
    room = stat["hit_points"] - arena.hp
    got = np.minimum(asked, room)
    arena.hp += got
    share = (got / np.maximum(asked, 1e-6)).ravel()[place]
    full = stat["hit_points"].ravel()[place]
    given = given * rules.LIFE / full
    healed = given * share
    ward = np.where(cast == rules.WARD, rules.WARD_HOLDS * (0.5 + stat["spell"] / 2), 0.0)
    # The one that was hurt most in the last step.
    near = np.broadcast_to(300.0 - arena.taken[:, None], arena.sight().ally.shape)
    beset = slot_of_least(near, arena.sight().ally <= rules.SKILL_RANGE[rules.WARD])
    warded = arena.friend + np.minimum(beset, P - 1) * arena.n
    arena.ward = np.maximum(0.95 * arena.ward, _at(arena, warded, ward.astype(np.float32)))
    calls = cast == rules.RALLY
    heard = calls[:, :, None] & (arena.sight().ally <= rules.SKILL_RANGE[rules.RALLY])
    fresh = (heard & (arena.rally == 0)[:, None]).sum(axis=2)
    arena.rally = np.where(heard.any(axis=1), rules.RALLY_STEPS, np.maximum(arena.rally - 1, 0))
    engaged = arena.sight().nearest <= 10.0
    buffs = (fresh + (cast == rules.WARD)) * engaged
    over = given - healed
    return {
        "healing": healed.astype(np.float32),
        "effective_healing": healed.astype(np.float32),
        "overhealing": over.astype(np.float32),
        "buffs": buffs.astype(np.float32),
    }


def _quality(arena: Arena, target: Ints, aim: Floats) -> Floats:
    """[2, 5, W]: which part of a blow at an enemy lands; depends on the step's moves."""
    place = arena.foe + np.minimum(target, P - 1) * arena.n
    lead, sway = arena.stat["lead"], arena.stat["sway"]
    gale_x, gale_y = arena.gale()
    # The gale pushes a blow aside and the target walks on: one aims against both.
    need_x = lead * arena.turn * arena.vx.ravel()[place] - sway * gale_x
    need_y = lead * arena.turn * arena.vy.ravel()[place] - sway * gale_y
    off_x, off_y = rules.AIM_SPAN * aim[0] - need_x, rules.AIM_SPAN * aim[1] - need_y
    missed = np.sqrt(off_x * off_x + off_y * off_y)
    span = rules.GONE_BEYOND - rules.FULL_WITHIN
    quality: Floats = np.clip((rules.GONE_BEYOND - missed) / span, 0.0, 1.0)
    return quality


def _thrown(arena: Arena, orders: Orders, cast: Ints, mark: Marks) -> tuple[Floats, Floats, Ints]:
    """[2, 5, 5, W] twice, the blows of weapons and spells at each enemy, and whom one struck at."""
    combat, stat, sight = orders.combat, arena.stat, arena.sight()
    target = mark.seen
    for action, other in (
        (rules.WEAKEST, mark.weakest), (rules.FOCUSED, mark.focused),
        (rules.DANGEROUS, mark.dangerous),
    ):  # fmt: skip
        target = np.where(combat == action, other, target)
    tired = 1.0 + rules.TIRED_STEP * np.maximum(arena.step_no - rules.TIRED_AFTER, 0)
    force = np.where(sight.on_hill, rules.HILL_FORCE, 1.0) * tired
    force *= np.where(arena.rally > 0, rules.RALLY_FACTOR, 1.0)
    force = force.astype(np.float32)
    blow = stat["damage"] * _BLOW[combat] * force * _quality(arena, target, orders.aim)
    weapon = np.where(target[:, :, None] == _SLOT, blow[:, :, None], 0.0)
    sweep = np.where(combat == rules.SWEEP, stat["damage"] * rules.SWEEP_FACTOR * force, 0.0)
    weapon += np.where(sight.dist <= rules.SWEEP_REACH, sweep[:, :, None], 0.0)
    aimed, at = _spells(arena, cast, mark)
    spell = aimed * stat["spell"] * force * _quality(arena, at, orders.aim)
    spells = np.where(at[:, :, None] == _SLOT, spell[:, :, None], 0.0)
    nova = np.where(cast == rules.NOVA, rules.NOVA_DAMAGE * stat["spell"] * force, 0.0)
    within = sight.dist <= rules.SKILL_RANGE[rules.NOVA]
    spells += np.where(within, nova[:, :, None], 0.0)
    struck = np.where(_BLOW[combat] > 0, target, np.where(at < P, at, -1))
    snared = arena.foe + np.minimum(at, P - 1) * arena.n
    fresh = _at(arena, snared, (cast == rules.SNARE).astype(np.float32)) > 0
    arena.snare = np.where(fresh, rules.SNARE_STEPS, np.maximum(arena.snare - 1, 0))
    return weapon, spells, struck


def _spells(arena: Arena, cast: Ints, mark: Marks) -> tuple[Floats, Ints]:
    """Power of the aimed skill of each actor, and at whom; slot 7 where none was cast."""
    at = np.full(cast.shape, 7, np.int64)
    thrown = (cast == rules.BOLT) | (cast == rules.SNARE)
    at = np.where(thrown, mark.seen, np.where(cast == rules.STRIKE, mark.weakest, at))
    share = (arena.hp / arena.stat["hit_points"]).ravel()
    lost = 1.0 - share[arena.foe + np.minimum(mark.weakest, P - 1) * arena.n]
    power = np.where(cast == rules.BOLT, rules.BOLT_DAMAGE, 0.0)
    power = np.where(cast == rules.SNARE, rules.SNARE_DAMAGE, power)
    strike = rules.STRIKE_DAMAGE * (1.0 + rules.STRIKE_GROWTH * lost)
    return np.where(cast == rules.STRIKE, strike, power).astype(np.float32), at


def _land(arena: Arena, weapon: Floats, spells: Floats, blocks: Flags, alive: Flags) -> Facts:
    """Take hit points, and say who took them from whom."""
    every = weapon + spells
    ganged = 1.0 + rules.GANG_FACTOR * np.maximum((every > 0).sum(axis=1, keepdims=True) - 1, 0)
    every, spells = every * ganged.astype(np.float32), spells * ganged.astype(np.float32)
    raw = every.sum(axis=1)[::-1]
    sheltered = raw * np.where(arena.sight().on_hill, rules.HILL_SHELTER, 1.0).astype(np.float32)
    blocked = np.where(blocks, sheltered * arena.stat["block"], 0.0)
    left = sheltered - blocked
    held = np.minimum(arena.ward, left)
    arena.ward = arena.ward - held
    took = np.where(alive, np.minimum(left - held, arena.hp), 0.0).astype(np.float32)
    arena.hp = arena.hp - took
    died = alive & (arena.hp <= 0)
    per_raw = (took / np.maximum(raw, 1e-9))[::-1, None]
    per_kill = (died / np.maximum(raw, 1e-9))[::-1, None].astype(np.float32)
    # A mage's staff throws sparks: all that it does is done by spells.
    spells = np.where((arena.kind == _MAGE)[:, :, None], every, spells)
    dealt, by_spell = (every * per_raw).sum(axis=2), (spells * per_raw).sum(axis=2)
    arena.dealt, arena.taken = dealt, took
    guard = (blocked > 0)[:, :, None] & (arena.sight().ally <= rules.GUARD_REACH)
    hurt = (arena.hp < 0.5 * arena.stat["hit_points"]) & ~died & (took == 0)
    deaths = died.astype(np.float32)
    return {
        "damage_dealt": dealt,
        "damage_taken": took,
        "damage_blocked": blocked.astype(np.float32),
        "damage_absorbed": (blocked + held).astype(np.float32),
        "kills": (every * per_kill).sum(axis=2),
        "deaths": deaths,
        "ally_deaths": deaths.sum(axis=1, keepdims=True) - deaths,
        "spell_damage": by_spell,
        "spell_kills": (spells * per_kill).sum(axis=2),
        "allies_protected": (guard & hurt[:, None]).any(axis=2).astype(np.float32),
        "survival_time": (alive & ~died).astype(np.float32),
    }


def _far(facts: Facts, arena: Arena, struck: Ints, dist: Floats, prior: Flags) -> None:
    """Add what tells how a striker kept its distance."""
    # A blow that only grazes is no feat, however far its target was.
    hit = facts["damage_dealt"] >= rules.FEAT_SHARE * arena.stat["damage"]
    index = np.clip(struck, 0, P - 1)[:, :, None]
    away = np.take_along_axis(dist, index, axis=2)[:, :, 0]
    distance = np.where(hit & (struck >= 0), away, -1.0).astype(np.float32)
    kept = (distance >= _NEAR_LOW[arena.kind]) & (distance <= _NEAR_HIGH[arena.kind])
    moved = (arena.vx != 0) | (arena.vy != 0)
    facts["distance"] = distance
    facts["kept_distance"] = kept.astype(np.float32)
    facts["spell_kill_bonus"] = np.where(distance >= 5.0, facts["spell_kills"], 0.0)
    facts["sustained_damage"] = np.where(prior, facts["damage_dealt"], 0.0)
    facts["kiting"] = (hit & moved & (facts["damage_taken"] == 0)).astype(np.float32)


def _attention(
    facts: Facts, arena: Arena, combat: Ints, struck: Ints, mark: Marks, cast: Ints
) -> None:
    """Remember who struck at whom, and who was drawn away from an ally."""
    strikes = (struck >= 0).astype(np.float32)
    at = arena.foe + np.clip(struck, 0, P - 1) * arena.n
    arena.beset = _at(arena, at, strikes).astype(np.int64)
    drawn = (struck >= 0) & (arena.target >= 0) & (struck != arena.target)
    facts["aggro"] = _at(arena, at, drawn.astype(np.float32))
    arena.target = struck
    taunts = rules.TAUNT_AGGRO * (combat == rules.TAUNT)
    aggro = rules.AGGRO_KEPT * arena.aggro + taunts + 0.03 * facts["damage_dealt"]
    arena.aggro = np.minimum(aggro, 8.0).astype(np.float32)
