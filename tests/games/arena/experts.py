"""Better play for each head, from what a learner sees: what the traditional AI leaves to be won."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from games.arena import rules
from games.arena.scripted import towards
from schemas.practice import Head, View

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

# Places in an observation: see docs/games/arena.md.
HP, MANA, ON_HILL, GALE, HILL, ENEMY, HURT, BESET, IN_REACH = 0, 1, 6, 16, 18, 20, 50, 55, 56


def stat(name: str) -> Floats:
    """[S, 1]."""
    return np.array(rules.KINDS[name], np.float32)[:, None]


def aim(view: View) -> Floats:
    """Against the gale and where the nearest enemy goes."""
    seen = view.observation
    velocity, gale = seen[..., ENEMY + 3 : ENEMY + 5], seen[..., GALE : GALE + 2]
    need = stat("lead")[..., None] * velocity - stat("sway")[..., None] * gale
    return np.clip(need / rules.AIM_SPAN, -1, 1)


def movement(view: View) -> Ints:
    """To the nearest hill, and there the enemy is awaited."""
    seen = view.observation
    there = seen[..., ON_HILL] > 0
    way = towards(seen[..., HILL], seen[..., HILL + 1])
    return np.where(there, 0, way) * view.alive


def combat(view: View) -> Ints:
    """The weakest first, heavy blows while there is mana for them, and heals in time."""
    legal = view.legal
    choice = np.where(legal[..., rules.WEAKEST], rules.WEAKEST, 0)
    return choice * view.alive


def skill(view: View) -> Ints:
    """By what is worth its mana."""
    legal = view.legal
    choice = np.zeros(view.alive.shape, np.int64)
    for k in (rules.MEND, rules.RALLY, rules.STRIKE):
        choice = np.where(legal[..., k], k, choice)
    return choice * view.alive


EXPERTS: dict[Head, Callable[[View], NDArray[np.generic]]] = {
    "combat": combat, "movement": movement, "skill": skill, "aim": aim,
}  # fmt: skip
