"""The archetypes' rewards over arrays, from the same description as the rewards of the log."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from games.arena.blows import Facts
from games.arena.sight import Floats, Ints
from schemas.game import Game, load_game
from schemas.practice import ARCHETYPES

DESCRIPTION: Final = Path(__file__).with_name("arena.toml")
TEAM: Final = "team."


@cache
def described() -> Game:
    """Return the arena's own description."""
    return load_game(DESCRIPTION)


@cache
def _tables() -> tuple[tuple[tuple[str, Floats], ...], Floats]:
    """Weights by fact, and scales, f32[6] each."""
    game = described()
    rewards = [game.rewards[game.reward_of("combat", name)] for name in ARCHETYPES]
    names = dict.fromkeys(name for r in rewards for name in r.weights or {})
    table = tuple(
        (name, np.array([(r.weights or {}).get(name, 0.0) for r in rewards], np.float32))
        for name in names
    )
    return table, np.array([r.scale for r in rewards], np.float32)


def rewards(facts: Facts, kind: Ints) -> Floats:
    """f32, shaped as `kind` [..., 5, W]: ``clip(scale * sum(weight * fact))`` by archetype.

    A fact of the team is the mean over the pack's five.
    """
    table, scale = _tables()
    total = np.zeros(kind.shape, np.float32)
    for name, weights in table:
        own = facts[name.removeprefix(TEAM)]
        fact = own.mean(axis=-2, keepdims=True) if name.startswith(TEAM) else own
        total += weights[kind] * fact
    bounded: Floats = np.clip(scale[kind] * total, -1.0, 1.0)
    return bounded
