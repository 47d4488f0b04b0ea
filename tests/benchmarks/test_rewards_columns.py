"""The ways that the benchmark compares give the same rewards."""

from __future__ import annotations

import pytest

from benchmarks import rewards_columns
from benchmarks.rewards_columns import battles, measure, plain_battle


def test_all_ways_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards_columns, "TURNS", 1)
    figures, equal = measure(2_000)
    assert equal
    assert {"rewards on columns", "rewards per event"} <= figures.keys()


def test_plain_way_is_the_formula_of_its_name() -> None:
    rewards = [plain_battle(facts) for facts in battles(500)]
    assert min(rewards) < -0.3
    assert max(rewards) > 0.9
    assert plain_battle({"defeat": 1, "enemy_casualties": 90, "resources_gained": 1e6}) == 0.0
