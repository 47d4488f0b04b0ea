"""The learners' benchmark: what it judges, what it says of a peer that is not there, its tables."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import learn, learn_models, learn_replay, learn_rotation, learn_windows
from benchmarks.learn_timing import by_turns
from learners.export import check_parity, outputs_of
from learners.exporting import make_form
from learners.model_types import registry

RESULT: dict[str, Any] = {
    "rows": [{"contender": "ours", "us": 2.0}, {"contender": "theirs", "us": "not there"}],
    "targets": [learn.target("speed", None, "at least", 2.0)],
    "rounds": 3,
    "measured": "2026-01-02T03:04:05+00:00",
    "machine": {"cpu": "x", "cores": 2, "load": 0.1, "python": "3.11", "torch": "2"},
}


def test_target_is_judged_by_its_bound() -> None:
    lines = learn.judged(
        [
            learn.target("speed", 2.04, "at least", 2.0),
            learn.target("memory", 0.71, "at most", 0.6),
            learn.target("peer", None, "at least", 2.0),
        ]
    )
    assert lines == [
        "- speed: 2.04, at least 2.0: met",
        "- memory: 0.71, at most 0.6: MISSED",
        "- peer: not there, at least 2.0: not measured",
    ]


def test_document_gets_the_tables_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{learn.BEGIN}\nold\n{learn.END}\nafter\n", encoding="utf-8")
    learn.document(path, {"windows": RESULT})
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{learn.BEGIN}\n### Windows beside")
    assert text.endswith(f"not measured\n\n{learn.END}\nafter\n")
    assert "old" not in text
    assert "| theirs | not there |" in text


def test_every_part_measures() -> None:
    for part in learn.PARTS:
        assert callable(importlib.import_module(f"benchmarks.learn_{part}").measure)
    assert set(learn.TITLES) == set(learn.PARTS)


def test_peers_that_are_not_installed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(learn_replay, "N", 4096)
    monkeypatch.setattr(learn_replay, "memory", lambda name: 1)
    found = learn_replay.measure(rounds=1)
    told = {row["contender"]: row["us a batch"] for row in found["rows"]}
    assert [told[name] for name in ("cpprb", learn_replay.SB3)] == ["not there"] * 2
    assert {t["met"] for t in found["targets"]} == {None}
    assert len(found["missing"]) == 2


def test_both_files_of_a_window_hold_the_same(tmp_path: Path) -> None:
    learn_windows.measure_shape("small", tmp_path, rounds=1)  # raises where they differ


def test_by_turns_asks_everyone_as_often() -> None:
    asked = {"a": 0, "b": 0}

    def ask(name: str) -> None:
        asked[name] += 1

    spent = by_turns({"a": lambda: ask("a"), "b": lambda: ask("b")}, 3, rounds=2, warm=1)
    assert asked == {"a": 7, "b": 7}
    assert spent.keys() == asked.keys()


def test_decision_of_a_model_with_a_memory_is_one_step_with_it(tmp_path: Path) -> None:
    model = learn_models.exported("temporal_transformer", "modern")
    assert model.feeds["observation"].shape[1] == 1
    assert np.abs(model.feeds["memory"]).max() > 0
    check_parity(model.full, outputs_of(model.graph, model.feeds), model.feeds)
    one = {k: v[: learn_rotation.N_FEEDS] for k, v in model.feeds.items()}
    for name in registry.names():  # one model stands for all
        (tmp_path / f"mage-{name}.onnx").write_bytes(make_form(model.full, "int8", model.feeds))
        np.savez(tmp_path / f"mage-{name}.npz", **one)  # type: ignore[arg-type]
    found = learn_rotation.ask(tmp_path, 2)
    assert found["n"] == 9
    assert found["cpu"][0] <= found["cpu"][1]
    json.dumps(found)
