"""The demo's page, line, picture and CSV from facts that were made up."""

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from infra.demo.facts import Facts, Rate, record_of
from infra.demo.page import bar, line, page
from infra.demo.picture import Point, Story, write_csv, write_picture
from infra.demo.report import story, why_not
from infra.demo.verdict import Score
from schemas.records import Metric, Origin, Window, WindowRule
from tests.infra.runs import evaluation, match_up, told
from tests.streams.streamkit import experience


def text_of(facts: Facts) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(page(facts, 280))
    return console.export_text()


def test_page_shows_the_run() -> None:
    text = text_of(told())
    for expected in (
        "GRINDSTONE learning",
        "120 s of 280",
        "100,000",
        "v0001",
        "rejected",
        "v0002",
        "playing",
        "80% ",
        "74%-85%",
        "learner steps",
        "900",
        "0.0200",
        "lag",
        "● broker",
        "100 s: chaos killed learner",
    ):
        assert expected in text, expected


def test_page_of_an_empty_run_can_be_drawn() -> None:
    assert "no version has been learned yet" in text_of(Facts())


def test_line_says_where_the_run_stands() -> None:
    assert line(told()) == (
        "  120 s | learning | 100,000 decisions (4,000/s) | 99,900 settled, 100 open | 0 windows | "
        "learner 900 steps, loss 0.0200 | 2 versions | champion v0002 wins 80% (at least 74%) | "
        "lag 12 | 0 dead letters"
    )


def test_bar_marks_rate_and_interval() -> None:
    assert bar(0.0, 0.5, 1.0, 5) == "──●──"
    assert bar(0.4, 0.5, 0.6, 10) == "····─●─···"


def test_record_is_of_the_last_stage_played() -> None:
    found = record_of(evaluation("v2", match_up("v2", "gate", 180), match_up("v2", "c", 150)))
    assert found is not None
    assert found.wins == 150


def test_record_is_not_the_champions() -> None:
    assert record_of(evaluation("v2", match_up("v1", "gate", 180))) is None


def test_rate_starts_over_when_a_counter_falls() -> None:
    rate = Rate()
    rate.add(0.0, 0.0)
    rate.add(10.0, 100.0)
    assert rate.value() == 10.0
    rate.add(11.0, 5.0)
    assert rate.value() == 0.0


def test_latency_p95_is_the_nearest_rank() -> None:
    facts = Facts()
    facts.latencies_ms = [float(n) for n in range(1, 101)]
    assert facts.latency_p95_ms == 95.0


def test_latencies_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.demo.facts.MAX_LATENCIES", 100)
    facts = Facts()
    for n in range(1_000):
        row = experience(Origin(0, n, 0), decision_time_ms=0)
        facts.on_latency(row, n)
    kept = facts.latencies_ms
    assert 50 <= len(kept) <= 100
    assert kept == [16.0 * n for n in range(len(kept))]


def test_a_version_taken_up_again_after_a_kill_is_no_slow_swap() -> None:
    facts = Facts()
    for swap_ms in (90.0, 66_000.0):
        labels = {"version": "v0001"}
        values = {"swap_ms": swap_ms}
        facts.on_metric(Metric(process="game", time_ms=0, values=values, labels=labels), 1.0)
    assert facts.swaps_ms == {"v0001": 90.0}


def test_a_window_announced_twice_counts_once() -> None:
    facts = Facts()
    window = Window(
        window_id="w",
        game="battle",
        archetype="pack",
        partition=0,
        n_rows=10,
        digest="d",
        files=[],
        first_origin=Origin(0, 0, 0),
        last_origin=Origin(0, 1, 0),
        min_time_ms=0,
        max_time_ms=1,
        reward_versions=[],
        policy_versions={},
        rule=WindowRule(max_rows=1, max_span_ms=1),
    )
    facts.on_window(window)
    facts.on_window(window)
    assert facts.windows == {"w": 10}


def score(wins: int) -> dict[str, Score]:
    return {"learned": Score(policy="learned", wins=wins, draws=0, losses=200 - wins)}


def test_score_is_bounded_by_wilson() -> None:
    # By hand: p = 0.76, n = 200, z = 1.95996; (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n)
    low, high = score(152)["learned"].interval
    assert round(low, 4) == 0.6963
    assert round(high, 4) == 0.8139


def test_a_run_passes_only_with_the_bound_and_the_proof() -> None:
    assert why_not(score(160), 0, 0, 0.7) == []
    assert why_not(score(152), 0, 0, 0.7) == [
        "the lower 95 % bound must be at least 0.70; got 0.696"
    ]
    assert why_not(score(160), 1, 0, 0.7) == ["lost and doubled must be 0; got 1 and 0"]
    assert why_not(score(160), None, None, 0.7) == ["the verification did not finish"]
    assert why_not({}, 0, 0, 0.7) == ["no version became champion"]


def test_picture_and_csv_are_written(tmp_path: Path) -> None:
    found = story(told(), score(170), "title", "subtitle")
    write_csv(tmp_path / "a.csv", found)
    write_picture(tmp_path / "a.png", found)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["version"] for row in rows] == ["v0001", "v0002", "v0002"]
    assert [row["fate"] for row in rows] == ["rejected", "champion", "verdict"]
    assert rows[1]["win_rate"] == "0.8000"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_picture_of_a_run_without_versions_is_written(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Story(title="t", subtitle="s", points=[]))
    assert (tmp_path / "a.png").stat().st_size > 1_000


def test_point_keeps_what_the_csv_says() -> None:
    point = Point(
        seconds=1, version="v", fate="champion", win_rate=1, lower95=1, upper95=1, matches=2
    )
    assert point.matches == 2
