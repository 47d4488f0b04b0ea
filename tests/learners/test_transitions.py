"""n-step returns of gathered fragments, by hand, and rows that are drawn."""

from __future__ import annotations

import numpy as np
import torch

from learners.fragments import Fragments
from learners.transitions import Transitions, ahead
from schemas.practice import Floats
from tests.learners.model_types.toy import toy_episodes


def _fragments(reward: Floats, terminated: list[int], truncated: list[int]) -> Fragments:
    """One model, one column; observation t at step t, t + 1 behind it."""
    n = len(reward)
    time = np.arange(n, dtype=np.float32).reshape(1, n, 1, 1)
    flags = np.zeros((3, 1, n, 1), np.bool_)
    flags[0, 0, terminated], flags[1, 0, truncated] = True, True
    flags[2, 0, 0] = True
    ended = flags[0] | flags[1]
    flags[2, 0, 1:] |= ended[0, :-1]
    return Fragments(
        observation=time, last_observation=time + 1, legal=np.ones((1, n, 1, 2), np.bool_),
        action=np.repeat(time / 10, 2, -1), log_behaviour=np.zeros((1, n, 1), np.float32),
        reward=reward.reshape(1, n, 1), terminated=flags[0], truncated=flags[1], first=flags[2],
        valid=np.ones((1, n, 1), np.bool_),
    )  # fmt: skip


def test_returns_over_three_steps_by_hand() -> None:
    """Rewards 1, 2, 4, 8, 16, 32 at a discount of 0.5; step 2 terminates, step 5 is cut."""
    reward = np.array([1, 2, 4, 8, 16, 32], np.float32)
    found, behind, ended, n_steps = ahead(_fragments(reward, [2], [5]), 3, 0.5)
    # 1 + 2/2 + 4/4; 2 + 4/2; 4; 8 + 16/2 + 32/4; 16 + 32/2; 32
    assert found[0, :, 0].tolist() == [3, 4, 4, 24, 32, 32]
    assert behind[0, :, 0, 0].tolist() == [3, 3, 3, 6, 6, 6]
    assert ended[0, :, 0].tolist() == [True, True, True, False, False, False]
    assert n_steps[0, :, 0].tolist() == [3, 2, 1, 3, 2, 1]


def test_returns_stop_where_an_actor_is_gone() -> None:
    fragments = _fragments(np.ones(4, np.float32), [], [3])
    fragments.valid[0, 2] = False
    found, _, _, n_steps = ahead(fragments, 4, 1.0)
    assert n_steps[0, :2, 0].tolist() == [2, 1]
    assert found[0, :2, 0].tolist() == [2, 1]


def test_one_step_is_the_row_itself() -> None:
    fragments = _fragments(np.arange(5, dtype=np.float32), [1], [4])
    found, behind, ended, n_steps = ahead(fragments, 1, 0.9)
    np.testing.assert_array_equal(found, fragments.reward)
    np.testing.assert_array_equal(behind, fragments.last_observation)
    np.testing.assert_array_equal(ended, fragments.terminated)
    assert (n_steps == 1).all()


def test_logged_rows_are_drawn_with_their_rewards_weighted() -> None:
    rows = toy_episodes(2)
    held = Transitions(2, 6, rows.observation.shape[1], 2, torch.device("cpu"))
    held.set_logged([rows, rows], reward_weight=0.5)
    batch = held.draw([np.random.default_rng(0)] * 2, 400)
    assert set(batch["reward"].flatten().tolist()) <= set((0.5 * rows.reward).tolist())
    assert (batch["n_steps"] == 1).all()
