"""Which way rows are learned from, by their age; and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from learners.model_types.base import LearnError
from learners.model_types.registry import model_type
from learners.training.choice import Way, choose
from learners.training.plan import settings_of
from schemas.practice import Episodes
from tests.learners.model_types.toy import toy_episodes


def rows(version: int = 0, epsilon: float = 0.5, old: float = 0.0) -> Episodes:
    """Rows of a version; a share of them of the first one."""
    some = toy_episodes(10, 1, epsilon)
    numbers = np.where(np.arange(len(some)) < old * len(some), min(version, 1), version)
    return dataclasses.replace(some, policy_version=numbers.astype(np.int64))


@pytest.mark.parametrize(
    ("name", "version", "current", "epsilon", "way"),
    [
        ("movement_ppo", 7, 8, 0.5, "on_policy"),
        ("movement_ppo", 4, 8, 0.5, "offline"),
        ("movement_ppo", 0, 0, 0.5, "offline"),
        ("combat_dqn", 0, 0, 0.5, "off_policy"),
        ("combat_dqn", 3, 9, 0.0, "offline"),
        ("spatial_vit", 0, 0, 0.0, "supervised"),
    ],
)
def test_choice_follows_the_age(
    name: str, version: int, current: int, epsilon: float, way: Way
) -> None:
    kind = model_type(name)
    chosen = choose(kind, rows(version, epsilon), current)
    assert chosen.way == way
    assert chosen.why.startswith(f"{way}: 600 rows of versions {version} to {version}")
    settings_of(kind, chosen.changes)


def test_choice_says_why_not() -> None:
    chosen = choose(model_type("movement_ppo"), rows(9, old=0.6), 9)
    assert "no on_policy: 40% of the rows are at most 2 versions behind, and 50%" in chosen.why


@pytest.mark.parametrize(
    ("name", "version", "epsilon", "wanted", "message"),
    [
        ("movement_ppo", 1, 0.5, "on_policy", "--method must be one of offline for movement_ppo"),
        ("combat_dqn", 1, 0.0, "off_policy", "--method must be one of offline for combat_dqn"),
        ("combat_dqn", 1, 0.5, "on_policy", "it learns off_policy or offline; got on_policy"),
    ],
)
def test_choice_refuses_what_is_unsound(
    name: str, version: int, epsilon: float, wanted: Way, message: str
) -> None:
    with pytest.raises(LearnError, match=message):
        choose(model_type(name), rows(version, epsilon), 9, wanted)


def test_rows_from_the_future_are_refused() -> None:
    with pytest.raises(LearnError, match="policy_version must be at most 3, .*; got 4"):
        choose(model_type("combat_dqn"), rows(4), 3)


def test_versions_of_another_model_are_not_fresh() -> None:
    chosen = choose(model_type("movement_ppo"), rows(7), 0, other="arena-mage")
    assert chosen.way == "offline"
    assert "versions 7 to 7 of arena-mage, another model" in chosen.why
    assert "no on_policy: arena-mage played the rows" in chosen.why
    scripted = choose(model_type("movement_ppo"), rows(0), 3, other="arena-mage")
    assert scripted.age.other is None
    assert "the policy is 3" in scripted.why
