"""Better play for each head, from what a learner sees: what the traditional AI leaves to be won."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from games.arena import rules
from games.arena.scripted import towards
from schemas.practice import ARCHETYPES, Head, View

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

# Places in an observation: see docs/games/arena.md.
ON_HILL, TAKEN, GALE, HILL, ENEMY, HURT, BESET = 6, 12, 16, 18, 20, 52, 55
COMMITS_WITHIN = 5.0
"""A pack on its hill meets what comes so near, all of it at once."""


def stat(name: str) -> Floats:
    """[S, 1]."""
    return np.array(rules.KINDS[name], np.float32)[:, None]


def of(*names: str) -> NDArray[np.bool_]:
    """[S, 1]: which of the archetypes are named."""
    return np.isin(ARCHETYPES, names)[:, None]


def aim(view: View) -> Floats:
    """Against the gale and where the nearest enemy goes."""
    seen = view.observation
    velocity, gale = seen[..., ENEMY + 3 : ENEMY + 5], seen[..., GALE : GALE + 2]
    need = stat("lead")[..., None] * velocity - stat("sway")[..., None] * gale
    aimed: Floats = np.clip(need / rules.AIM_SPAN, -1, 1)
    return aimed


def movement(view: View) -> Ints:
    """To the middle of the nearest hill; from there at what comes near, all together."""
    seen = view.observation
    hill_x, hill_y = (seen[..., HILL + k] * rules.HALF for k in (0, 1))
    enemy_x, enemy_y = (seen[..., ENEMY + k] * rules.HALF for k in (0, 1))
    distance, reach = np.hypot(enemy_x, enemy_y), 0.9 * stat("reach")
    there = np.hypot(hill_x, hill_y) < 0.7
    move = np.where(there, 0, towards(hill_x, hill_y))
    commits = (distance < COMMITS_WITHIN) & (seen[..., ON_HILL] > 0)
    move = np.where(commits, towards(enemy_x, enemy_y), move)
    return np.where(distance <= reach, 0, move) * view.alive


def combat(view: View) -> Ints:
    """Block when two strike at one, heal in time, and all at the weakest."""
    seen = view.observation
    return _first(
        view,
        (rules.BLOCK, seen[..., BESET] * rules.PACK > 1.5),
        (rules.HEAL, of("support") & (seen[..., HURT] < 0.5)),
        (rules.HEAVY, np.broadcast_to(of("aggressive", "ranged"), view.alive.shape)),
        (rules.WEAKEST, view.alive),
    )


def skill(view: View) -> Ints:
    """Ward who is hit, strike who is hurt, and keep the mana otherwise."""
    seen = view.observation
    fought = (seen[..., TAKEN] > 0) | (seen[..., HURT] < 0.99)
    return _first(
        view,
        (rules.WARD, fought),
        (rules.STRIKE, np.broadcast_to(of("mage"), view.alive.shape)),
    )


def _first(view: View, *wishes: tuple[int, NDArray[np.bool_]]) -> Ints:
    choice = np.zeros(view.alive.shape, np.int64)
    for wish, when in reversed(wishes):
        choice = np.where(view.legal[..., wish] & when, wish, choice)
    return choice * view.alive


EXPERTS: dict[Head, Callable[[View], NDArray[np.generic]]] = {
    "combat": combat, "movement": movement, "skill": skill, "aim": aim,
}  # fmt: skip
