"""Rows picked out of an archive again: which, in what form, and their digest."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.arrow import table_to_rows
from schemas.events import ActorEvent, Tick
from schemas.records import Experience, Origin
from streams.reader import Span
from streams.replay import (
    Count,
    JsonLines,
    ParquetRows,
    ReplayError,
    RowSetDigest,
    Selection,
    replay_archive,
    summary,
)
from tests.infra.lake import START_MS, STEP_MS, archive, duels, events, fold, log_of
from tests.streams.streamkit import experience


class Kept:
    """A sink that keeps."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def write(self, place: tuple[int, int, int], row: Any) -> None:
        self.rows.append(row)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def wanted() -> list[Experience]:
    return [row for row in fold(log_of(), duels()) if isinstance(row, Experience)]


@pytest.fixture
def url(tmp_path: Path, wanted: list[Experience]) -> str:
    archive(wanted, duels(), tmp_path / "windows")
    return str(tmp_path / "windows")


def pick(url: str, span: Span | None = None, **wanted: Any) -> tuple[Count, list[Experience]]:
    sink = Kept()
    count = replay_archive(url, Selection(**wanted), span or Span(), sink)
    return count, sink.rows


def test_an_archive_is_replayed_whole(url: str, wanted: list[Experience]) -> None:
    count, rows = pick(url)
    assert sorted(rows, key=lambda r: r.origin) == wanted
    found = summary(count)
    assert (found["rows"], found["read"]) == (120, 120)
    assert found["types"] == {wanted[0].__struct_config__.tag: 120}
    times = [row.decision_time_ms for row in wanted]
    assert (found["first_time_ms"], found["last_time_ms"]) == (min(times), max(times))


def test_a_range_takes_its_first_time_and_not_its_last(url: str) -> None:
    _, rows = pick(url, from_ms=START_MS + 3 * STEP_MS, to_ms=START_MS + 5 * STEP_MS)
    assert sorted((row.actor_id, row.step) for row in rows) == [
        ("a", 3),
        ("a", 4),
        ("b", 3),
        ("b", 4),
    ]


@pytest.mark.parametrize(
    ("selection", "n"),
    [
        ({"archetypes": frozenset({"guard"})}, 60),
        ({"actors": frozenset({"a", "b"})}, 120),
        ({"actors": frozenset({"a"}), "archetypes": frozenset({"guard"})}, 0),
        ({"domains": frozenset({"combat"})}, 120),
        ({"policies": frozenset({"v9"})}, 0),
        ({"games": frozenset({"duel"})}, 120),
        ({"types": frozenset({"watermark"})}, 0),
    ],
)
def test_filters_leave_out_what_they_do_not_name(url: str, selection: Any, n: int) -> None:
    count, rows = pick(url, **selection)
    assert len(rows) == count.n_rows == n


def test_offsets_are_those_of_the_events(url: str, wanted: list[Experience]) -> None:
    span = Span(from_offsets={0: 5}, to_offsets={0: 9})
    _, rows = pick(url, span)
    assert len(rows) == sum(5 <= row.origin.offset < 9 for row in wanted) > 0
    assert pick(url, Span(partitions=[1]))[1] == []


def test_an_archive_knows_no_times_of_the_log(url: str, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="--log-time"):
        pick(url, Span(from_time_ms=1))
    with pytest.raises(ReplayError, match="must hold windows"):
        pick(str(tmp_path / "nothing"))


def test_an_outcome_goes_with_its_decision() -> None:
    told = events(5, "a", "fighter", 1) + events(5, "b", "guard", 2)
    picker = Selection(archetypes=frozenset({"guard"})).picker()
    kept = [e for e in told if picker.wants(e)]
    assert {e.actor_id for e in kept if not isinstance(e, Tick)} == {"b"}
    assert len(kept) == 10  # decisions and outcomes; a snapshot says no archetype
    picker = Selection(archetypes=frozenset({"guard"}), types=frozenset({"outcome"})).picker()
    assert len([e for e in told if picker.wants(e)]) == 5


@given(st.permutations(range(6)), st.integers(0, 6))
def test_digest_does_not_ask_for_order_or_parts(order: list[int], cut: int) -> None:
    rows = [experience(Origin(0, n, 0), n) for n in range(6)]
    straight, left, right = RowSetDigest(), RowSetDigest(), RowSetDigest()
    for row in rows:
        straight.add(row)
    for at, n in enumerate(order):
        (left if at < cut else right).add(rows[n])
    left.merge(right.hexdigest(), right.n_rows)
    assert (left.hexdigest(), left.n_rows) == (straight.hexdigest(), 6)
    left.add(rows[0])
    assert left.hexdigest() != straight.hexdigest()


def test_json_lines_hold_place_and_fields(url: str, wanted: list[Experience]) -> None:
    stream = io.BytesIO()
    replay_archive(url, Selection(actors=frozenset({"b"})), Span(), JsonLines(stream))
    first = json.loads(stream.getvalue().splitlines()[0])
    row = next(r for r in wanted if r.decision_id == first["decision_id"])
    place = (row.origin.partition, row.origin.offset, row.origin.index)
    assert (first["partition"], first["offset"], first["index"]) == place
    assert first["total"] == row.total


def test_parquet_of_experience_has_the_columns_of_windows(
    url: str, wanted: list[Experience], tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    with path.open("wb") as stream:
        sink = ParquetRows(stream, [Experience], {"duel": duels()})
        replay_archive(url, Selection(), Span(), sink)
    rows = table_to_rows(pq.read_table(path))
    assert sorted(rows, key=lambda r: r.origin) == wanted


def test_parquet_of_events_has_a_column_for_every_field(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    told = events(3, "a", "fighter", 1)
    with path.open("wb") as stream:
        sink = ParquetRows(stream, [*get_args(ActorEvent), Tick], {})
        for n, event in enumerate(told):
            sink.write((0, 7, n), event)
        sink.close()
    rows = pq.read_table(path).to_pylist()
    assert [row["type"].partition(".")[0] for row in rows[:3]] == [
        "decision",
        "outcome",
        "snapshot",
    ]
    assert (rows[0]["offset"], rows[0]["index"], rows[0]["step"]) == (7, 0, 0)
    assert dict(rows[1]["facts"]).keys() == {"hits", "losses"}
    assert rows[1]["observation"] is None
    assert rows[0]["observation"] == told[0].observation  # type: ignore[union-attr]


def test_parquet_refuses_a_game_that_is_not_described(tmp_path: Path) -> None:
    with (tmp_path / "x.parquet").open("wb") as stream:
        sink = ParquetRows(stream, [Experience], {"duel": duels()})
        sink.write((0, 0, 0), experience(Origin(0, 0, 0)))
        with pytest.raises(ReplayError, match="game of a row must be duel"):
            sink.close()
