from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from games.arena.api import ArenaEnv, ArenaParallel

with warnings.catch_warnings():  # PettingZoo's tests import a game of its own in an old way
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.test import parallel_api_test, parallel_seed_test


def test_gymnasium_finds_no_fault() -> None:
    check_env(ArenaEnv("mage"), skip_render_check=True)


def test_pettingzoo_finds_no_fault() -> None:
    parallel_api_test(ArenaParallel("ranged", "tank"), num_cycles=300)


def test_pettingzoo_finds_equal_play_for_equal_seeds() -> None:
    parallel_seed_test(ArenaParallel, num_cycles=40)


def test_illegal_choices_count_as_the_neutral_one() -> None:
    one, other = ArenaEnv(), ArenaEnv()
    seen, info = one.reset(seed=3)
    other.reset(seed=3)
    assert not info["action_mask"]["combat"][1]
    aim = np.zeros(2, np.float32)
    strike = {"combat": 1, "movement": 0, "skill": 1, "aim": aim}
    wait = {"combat": 0, "movement": 0, "skill": 0, "aim": aim}
    assert np.array_equal(one.step(strike)[0], other.step(wait)[0])


def test_unknown_archetypes_and_difficulties_are_refused() -> None:
    with pytest.raises(ValueError, match="archetype must be one of"):
        ArenaParallel("wizard")
    with pytest.raises(ValueError, match="difficulty must be 0 to 4; got 9"):
        ArenaEnv(difficulty=9)
