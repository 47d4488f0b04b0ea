"""What the stream's benchmark makes of its measurements, without measuring."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import stream
from benchmarks.stream import Row, collect, judge, table
from benchmarks.stream_round import digest_rows, is_right


def line(name: str, whole: float, warm: float, ok: bool = True) -> dict[str, object]:
    return {
        "name": name,
        "ev_per_cpu_s": whole,
        "ev_per_cpu_s_2nd_half": warm,
        "ev_per_wall_s": 1.0,
        "check": {"ok": ok},
    }


def test_figures_are_medians_of_the_warm_half_and_ours_the_lower_of_both() -> None:
    rows: dict[str, Row] = {}
    collect(rows, [line("ks-mem-eos", 50, 90), line("ks-mem-eos", 60, 110), line("ours", 9, 9)])
    collect(rows, [line("ks-mem-eos", 70, 100), line("single", 160, 150), line("single", 180, 190)])
    assert set(rows) == {"ks-mem-eos", "single"}, "the peers' `ours` is our `single`"
    assert rows["ks-mem-eos"].figure == 100
    assert rows["single"].figure == 170


def test_a_target_is_met_by_what_was_measured_and_missed_without_it() -> None:
    rows = {"single": Row("single", [150.0]), "ks-mem-eos": Row("ks-mem-eos", [90.0], [100.0])}
    verdicts = {(v["row"], v["of"]): v for v in judge(rows)}
    assert verdicts["single", "ks-mem-eos"]["met"]
    assert verdicts["single", "ks-mem-eos"]["measured"] == 1.5
    assert not verdicts["packs", "ks-mem-eos"]["met"]
    assert any("not measured" in text for text in table(rows, list(verdicts.values())))


def test_an_output_that_is_not_equal_is_said() -> None:
    rows: dict[str, Row] = {}
    collect(rows, [line("single", 1, 1), line("single", 1, 1, ok=False)])
    assert not rows["single"].right
    assert any("WRONG" in text for text in table(rows, []))


def test_rows_have_one_digest_in_any_order_and_must_be_complete() -> None:
    rows = [
        {"decision_id": "a", "reward": 0.5, "settled": "outcome"},
        {"decision_id": "b", "reward": 0.0, "settled": "timeout"},
    ]
    expected = {"outputs": 2, "timeouts": 1, "sum_reward": 0.5}
    assert digest_rows(rows) == digest_rows(rows[::-1])
    assert is_right(digest_rows(rows), expected)
    assert not is_right(digest_rows([rows[0], rows[0]]), expected), "one twice, one lost"
    assert not is_right(digest_rows(rows[:1]), expected)


def test_without_peers_it_says_so_and_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stream", "--peers", str(tmp_path / "none")])
    assert stream.main() == 2
    assert "must be the folder of the peers' bench.sh" in capsys.readouterr().err
