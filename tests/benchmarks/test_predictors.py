"""The benchmark of the predicting types: its arithmetic, and one small run to its table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import predictors
from games.arena.practice import ArenaPractice
from games.arena.record import episodes
from schemas.practice import ARCHETYPES


def test_gain_is_that_of_all_rows_and_its_interval_is_over_matches() -> None:
    measures = {"loss": np.array([1.0, 3.0]), "trivial": np.array([2.0, 4.0])}
    found = predictors.worth(measures, np.array([10.0, 30.0]), seed=0)
    assert found["loss"] == pytest.approx(2.5)  # (10 * 1 + 30 * 3) / 40
    assert found["gain"] == pytest.approx(1 - 2.5 / 3.5)
    # Two matches: the first twice, both, or the second twice, a quarter of the draws each end.
    assert found["gain_interval"] == pytest.approx([1 - 3 / 4, 1 - 1 / 2])
    assert found["matches"] == 2


def test_a_small_run_trains_judges_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    world = ArenaPractice()
    some = episodes(world, 3_000, 1)
    rows = [some[name] for name in ARCHETYPES]
    changes = {"updates": 2, "hidden": [8], "members": 2, "batch": 16, "calibration": 0.0}
    plan = predictors.make_plan("threat_assessment", "modern", changes, 1)
    found = predictors.measure(plan, world.layout, rows, rows, seconds=60.0)
    assert found["updates"] == 2
    assert "threat_assessment 2 " in capsys.readouterr().err
    shown = predictors.table("threat_assessment modern", found).splitlines()
    assert shown[1].startswith("| archetype | matches | loss | trivial | better by |")
    assert [line.split(" | ")[0] for line in shown[3:]] == [f"| {name}" for name in ARCHETYPES]
    json.dumps(found)
    for one, name in zip(rows, ARCHETYPES, strict=True):
        assert found["models"][name]["matches"] == len(np.unique(one.match))
