"""Settled rows for the storage benchmarks: as many, of the same values, as asked for."""

from __future__ import annotations

import numpy as np

from schemas.game import Game, parse_game
from schemas.records import Experience, Origin

SHAPES = {"small": (64, 6), "battle": (845, 21)}
"""Floats of an observation and number of actions: a fight of two, and the battle game's view."""


def game_of(shape: str) -> Game:
    """Return a game of that shape."""
    n_floats, n_actions = SHAPES[shape]
    return parse_game(
        {
            "game": shape,
            "observation": {"layout": "bench@1", "shape": [n_floats]},
            "actions": {"names": [f"a{i}" for i in range(n_actions)]},
            "rewards": {"bench@1": {"weights": {"hit": 1.0}}},
            "domains": {"combat": {"reward": "bench@1"}},
            "archetypes": {"wolf": {"model": "wolf"}},
        }
    )


def make_rows(shape: str, n: int, seed: int = 1) -> list[Experience]:
    """Return rows with the fields that a fight fills; an observation is a quarter full."""
    n_floats, n_actions = SHAPES[shape]
    draw = np.random.default_rng(seed)
    seen = draw.random((n + 1, n_floats), dtype=np.float32)
    seen[seen < 0.75] = 0.0
    views = [view.tobytes() for view in seen]
    legal = [mask.tobytes() for mask in (draw.random((n, n_actions)) < 0.7).astype(np.uint8)]
    chances = [share.tobytes() for share in draw.random((n, n_actions), dtype=np.float32)]
    return [
        Experience(
            decision_id=f"{shape}-{seed}-world-{i % 16}:{i}",
            origin=Origin(0, i // 50, i % 50),
            game=shape,
            world=f"world-{i % 16}",
            episode=f"episode-{i // 4000}",
            actor_id=f"actor-{i % 256}",
            archetype="wolf",
            domain="combat",
            step=i // 256,
            decision_time_ms=1_750_000_000_000 + i,
            settled_time_ms=1_750_000_000_400 + i,
            observation=views[i],
            legal=legal[i],
            action=i % n_actions,
            propensity=0.25 + (i % 7) / 10,
            probabilities=chances[i],
            policy_version=f"v{i // 5000}",
            next_observation=views[i + 1],
            next_legal=legal[i],
            outcome_facts={"hit": float(i % 3), "damage": i / 7, "kill": float(i % 50 == 0)},
            outcome_time_ms=1_750_000_000_100 + i,
            immediate=(i % 200) / 100 - 1,
            long_term=0.0,
            total=(i % 200) / 100 - 1,
            reward_version="bench@1",
            status="observed",
        )
        for i in range(n)
    ]
