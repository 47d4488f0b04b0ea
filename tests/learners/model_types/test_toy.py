"""The toy world keeps the promises that the types rely on."""

from __future__ import annotations

import numpy as np

from schemas.practice import split_by_match
from tests.learners.model_types.toy import STEPS, ToyWorld, toy_episodes


def test_toy_rows_are_whole_sequences_in_order() -> None:
    rows = toy_episodes(n_matches=6)
    assert len(rows) == 6 * 5 * STEPS
    starts = np.flatnonzero(rows.first)
    assert (np.diff(starts) == STEPS).all()
    assert (rows.step.reshape(-1, STEPS) == np.arange(STEPS)).all()
    inner = ~(rows.terminated | rows.truncated)
    follows = np.flatnonzero(inner)
    assert (rows.next_observation[follows] == rows.observation[follows + 1]).all()
    assert (rows.next_observation[rows.terminated] == 0).all()
    assert rows.legal["combat"][np.arange(len(rows)), rows.action["combat"]].all()


def test_split_keeps_matches_whole() -> None:
    learn, judge = split_by_match(toy_episodes(n_matches=10), 0.2)
    assert set(learn.match) | set(judge.match) == set(range(10))
    assert set(judge.match) == {8, 9}


def test_toy_world_is_won_by_its_own_ai_and_not_by_one_choice() -> None:
    world = ToyWorld()
    np.testing.assert_allclose(world.play("combat", None, 4, 0), 1.0, rtol=1e-6)
    lazy = world.play("combat", lambda v: np.zeros(v.alive.shape, np.int64), 4, 0)
    assert lazy.shape == (2, 4)
    assert 0.1 < lazy.mean() < 0.4
