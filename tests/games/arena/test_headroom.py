"""That every head of every archetype leaves much to be won; the long form is in the docs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.arena_experts import EXPERTS
from games.arena.practice import ArenaPractice
from schemas.practice import ARCHETYPES, Head

N = 40
LEAST = 0.70
"""Of 40 matches; of 400 all are above 0.80 (docs/games/arena.md)."""


@pytest.mark.parametrize("head", EXPERTS)
def test_expert_of_one_head_beats_the_traditional_ai(head: Head) -> None:
    won = ArenaPractice().play(head, EXPERTS[head], N, seed=21).mean(axis=1)
    assert dict(zip(ARCHETYPES, won.tolist(), strict=True)) == pytest.approx(
        dict.fromkeys(ARCHETYPES, 1.0), abs=1.0 - LEAST
    )


def test_difficulty_orders_the_opponents() -> None:
    world = ArenaPractice(["aggressive", "mage"])
    won = [world.play("combat", None, 24, seed=5, difficulty=d).mean() for d in (0, 2, 4)]
    assert won[0] > 0.8
    assert won[1] == 0.5
    assert won[2] < 0.2
    mixed = world.play("combat", None, 24, seed=5, difficulty=[0, 4]).mean(axis=1)
    assert np.array_equal(mixed > 0.5, [True, False])
