"""The arena's numbers and names; docs/games/arena.md says what they mean together."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.practice import Head

PACK: Final = 5
FEATURES: Final = 64
LIMIT: Final = 120
"""Steps of a match at most."""
HALF: Final = 16.0
"""The field is square, its centre (0, 0) and its sides 32 long: one pixel of a map a unit."""

# -- heads: choice 0 of each is neutral and always legal

COMBAT: Final = (
    "wait", "attack_nearest", "attack_weakest", "attack_focused", "attack_dangerous",
    "heavy", "sweep", "block", "heal", "taunt",
)  # fmt: skip
(WAIT, NEAREST, WEAKEST, FOCUSED, DANGEROUS, HEAVY, SWEEP, BLOCK, HEAL, TAUNT) = range(10)
MOVES: Final = (
    "stand", "east", "north_east", "north", "north_west", "west", "south_west", "south",
    "south_east",
)  # fmt: skip
_DIAGONAL = np.sqrt(0.5)
MOVE_X: Final = np.array([0, 1, _DIAGONAL, 0, -_DIAGONAL, -1, -_DIAGONAL, 0, _DIAGONAL], np.float32)
"""In one's own frame: east is towards the enemy's end of the field, north is up the y axis."""
MOVE_Y: Final = np.array([0, 0, _DIAGONAL, 1, _DIAGONAL, 0, -_DIAGONAL, -1, -_DIAGONAL], np.float32)
SKILLS: Final = ("none", "bolt", "nova", "mend", "ward", "rally", "snare", "strike")
(NONE, BOLT, NOVA, MEND, WARD, RALLY, SNARE, STRIKE) = range(8)
AIM: Final = "aim"
"""The one action of an aim, whose choice is its two numbers."""
ACTION_NAMES: Final = (
    *COMBAT,
    *(f"move_{name}" for name in MOVES),
    *(f"skill_{name}" for name in SKILLS),
    AIM,
)
"""All heads' choices as one list: what an event's action counts in."""
FIRST: Final[dict[Head, int]] = {"combat": 0, "movement": 10, "skill": 19, "aim": 27}
"""Where a head's choices begin in that list."""
N_CHOICES: Final[dict[Head, int]] = {"combat": 10, "movement": 9, "skill": 8, "aim": 2}

# -- archetypes, in the order of schemas.practice.ARCHETYPES

KINDS: Final[dict[str, tuple[float, ...]]] = {
    "hit_points": (100, 120, 95, 95, 150, 90),
    "mana": (60, 60, 110, 130, 60, 60),
    "mana_step": (0.8, 0.8, 1.6, 2.0, 0.8, 0.8),
    "damage": (9.0, 7.0, 7.5, 7.5, 6.5, 8.0),
    "reach": (2.0, 2.0, 6.0, 8.0, 2.0, 10.0),
    "speed": (1.0, 0.85, 0.9, 0.85, 0.75, 0.95),
    "block": (0.65, 0.75, 0.6, 0.7, 0.8, 0.6),
    "heal": (5.0, 7.0, 14.0, 6.0, 6.0, 5.0),
    "spell": (0.7, 0.6, 0.9, 1.3, 0.6, 0.7),
    "sway": (0.8, 0.7, 0.8, 0.9, 0.7, 1.0),
    "lead": (0.7, 0.6, 0.8, 0.9, 0.6, 1.0),
}
"""Each number by archetype. A blow falls ``sway`` times the gale aside, and ``lead`` times the
target's move of the step behind it."""

# -- skills

SKILL_COST: Final = np.array([0, 18, 26, 24, 20, 24, 12, 26], np.float32)
SKILL_RANGE: Final = np.array([0, 9, 4, 8, 8, 5, 9, 0], np.float32)
"""Of strike: the archetype's own reach."""
SKILL_PAUSE: Final = np.array([0, 2, 4, 4, 5, 8, 5, 5], np.int64)
"""Steps until the same skill is ready again."""
BOLT_DAMAGE, NOVA_DAMAGE, STRIKE_DAMAGE = 12.0, 10.0, 13.0
"""Times the archetype's ``spell``; strike's grows to four times with what its target has lost."""
STRIKE_GROWTH: Final = 3.0
MEND_HEALS: Final = 22.0
WARD_HOLDS: Final = 34.0
RALLY_FACTOR, RALLY_STEPS = 1.35, 5
SNARE_FACTOR, SNARE_STEPS = 0.35, 5
SNARE_DAMAGE: Final = 5.0
_POWER = (0, BOLT_DAMAGE, NOVA_DAMAGE, MEND_HEALS, WARD_HOLDS, 0, SNARE_DAMAGE, STRIKE_DAMAGE)
_IS = {"hurts": (BOLT, NOVA, SNARE, STRIKE), "heals": (MEND,), "shields": (WARD,)}
SKILL_FACTS: Final = np.stack(
    [
        SKILL_COST / 30,
        SKILL_RANGE / 10,
        SKILL_PAUSE / 10,
        np.array(_POWER) / 30,
        *(np.isin(np.arange(len(SKILLS)), which) for which in _IS.values()),
        np.isin(np.arange(len(SKILLS)), (RALLY,)),
        np.isin(np.arange(len(SKILLS)), (NOVA, RALLY)),
        np.isin(np.arange(len(SKILLS)), (SNARE,)),
    ],
    axis=1,
).astype(np.float32)
"""[K, 10]: cost, range, pause, power, then flags: hurts, heals, shields, strengthens, area,
slows."""

# -- blows

AIM_SPAN: Final = 1.5
"""Units aside that an aim of 1 means."""
FULL_WITHIN, GONE_BEYOND = 0.25, 1.35
"""A blow that falls so near its target does all its damage, and none beyond; linear between."""
GALE: Final = (0.55, 1.0)
"""Least and most strength of a match's gale."""
HEAVY_FACTOR, HEAVY_COST = 1.9, 12.0
SWEEP_FACTOR, SWEEP_REACH = 0.5, 3.0
HEAL_COST, HEAL_REACH = 9.0, 8.0
TAUNT_COST, TAUNT_REACH, TAUNT_AGGRO = 6.0, 8.0, 6.0
WAIT_MANA: Final = 3.0
"""Steps' worth of mana that a step of waiting brings on top."""
AGGRO_KEPT: Final = 0.85
"""Share of the attention that an actor draws which stays from step to step."""
FEAT_SHARE: Final = 0.6
"""Of an archetype's full damage, that a blow must do to count as one from afar or on the move."""
LIFE: Final = 10.0
"""Healing is told in such parts of the healed one's full hit points: by the weights of its reward
a whole life restored is then worth a little more than one lost."""
GANG_FACTOR: Final = 0.3
"""More of a blow for each other that falls on the same target in the same step."""
HILL_RADIUS, HILL_SHELTER, HILL_FORCE = 3.0, 0.65, 1.15
"""On a hill one takes 0.65 of a blow and deals 1.15 of it."""
TIRED_AFTER, TIRED_STEP = 50, 0.03
"""From the 50th step on every blow does 0.03 more each step, so that matches end."""
GUARD_REACH: Final = 3.0
"""A blocker so near an ally that is hit counts as its protector."""

# -- maps

PATCH: Final = 8
MAP_SIZE: Final = 32
MAP_CHANNELS: Final = 6
"""Hills, own pack, enemies, oneself, own hit points, enemies' hit points."""
N_PATCHES: Final = (MAP_SIZE // PATCH) ** 2
LOOK_AHEAD: Final = 8
"""Steps until the place that `schemas.practice.Episodes.target` tells."""
