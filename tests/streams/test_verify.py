"""The proof finds every kind of damage, and nothing where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode_event, encode_pack
from schemas.events import Event, Tick
from schemas.records import (
    Experience,
    Row,
    Watermark,
    Window,
    WindowRule,
    decode_rows,
    decode_window,
    encode_rows,
    encode_window,
)
from schemas.topics import Topics
from streams.archiver.files import store_window
from streams.archiver.service import Archiver, ArchiverSettings
from streams.archiver.store import ArchiveStore
from streams.archiver.windows import Progress, WindowFold
from streams.engine import Record
from streams.reader import Span, read_records, read_topic
from streams.verify import PartitionProof, PartitionReport, VerifyProgress, VerifySettings, verify
from streams.writer import EventWriter, WriterSettings
from tests.streams.streamkit import (
    MakeToyFold,
    decision,
    make_topics,
    outcome,
    rule_of,
    run_until,
    toy_game,
)

TOPICS = Topics("t-")
RULE = WindowRule(max_rows=10, max_span_ms=10_000)


def _log(n: int = 60) -> list[Record]:
    """Decisions with outcomes, ticks, three that stay open, a bad one and a good one beside it."""
    values: list[bytes] = []
    for i in range(n):
        events: list[Event] = [decision(i, archetype="bear" if i % 5 == 0 else "wolf")]
        events.append(outcome(i))
        values.append(encode_pack(events))
        if i % 10 == 9:
            values.append(encode_event(Tick(event_time_ms=1_000 + i, source="test")))
    values.append(encode_pack([decision(n), decision(n + 1), decision(n + 2)]))
    bad = {**msgspec.to_builtins(decision(n + 3)), "propensity": 2.0}
    values.append(msgspec.msgpack.encode([bad, decision(n + 4), outcome(n + 4)]))
    values.append(b"not an event")
    return [Record(0, i, 50, None, value) for i, value in enumerate(values)]


def _rows(log: Sequence[Record]) -> list[Row]:
    """The rows that follow from the log."""
    effects = MakeToyFold(TOPICS)(0, {}).fold(log)
    found = [o.value for o in effects.outputs if o.topic == TOPICS.experiences and o.value]
    return [row for value in found for row in decode_rows(value)]


def _archive(rows: Sequence[Row], folder: Path) -> tuple[ArchiveStore, list[Window], Progress]:
    store = ArchiveStore.open(str(folder))
    fold = WindowFold(0, rule_of(RULE))
    sealed = [w for i, row in enumerate(rows) for w in fold.take(i, [row])]
    windows = [store_window(store, w, toy_game(), "zstd") for w in sealed]
    return store, windows, fold.progress()


def _prove(
    log: Sequence[Record],
    rows: Sequence[Row],
    archive: tuple[ArchiveStore, list[Window], Progress] | None = None,
    *,
    cut: int = 7,
    allow_behind: bool = False,
) -> PartitionReport:
    store, windows, progress = archive or (None, [], None)
    proof = PartitionProof(TOPICS, 0, MakeToyFold(TOPICS), windows, progress)
    packs = [encode_rows(list(rows[i : i + cut])) for i in range(0, len(rows), cut)]
    for i in range(0, len(log), cut):
        proof.fold(log[i : i + cut])
    for offset, pack in enumerate(packs):
        proof.match.find(offset, pack)
    proof.finish(allow_behind=allow_behind, store=store)
    return proof.report


def test_proof_of_a_sound_log_finds_nothing(tmp_path: Path) -> None:
    log = _log()
    rows = _rows(log)
    report = _prove(log, rows, _archive(rows, tmp_path))
    assert report.culprits == []
    assert (report.decisions, report.settled, report.open) == (65, 61, 3)
    assert (report.dead_decisions, report.dead_letters) == (1, 2)
    assert (report.experiences, report.watermarks, report.windows) == (61, 6, 5)
    assert (report.window_rows, report.unarchived, report.files) == (50, 11, 5)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 80), st.integers(0, 40))
def test_proof_does_not_depend_on_batches(cut: int, n: int) -> None:
    log = _log(n)
    assert _prove(log, _rows(log), cut=cut) == _prove(log, _rows(log))
    assert _prove(log, _rows(log), cut=cut).culprits == []


def _drop(rows: list[Row]) -> list[Row]:
    return rows[:20] + rows[21:]


def _drop_last(rows: list[Row]) -> list[Row]:
    return rows[:-1]


def _double(rows: list[Row]) -> list[Row]:
    return [*rows[:30], *rows[25:]]


def _change(rows: list[Row]) -> list[Row]:
    row = rows[20]
    assert isinstance(row, Experience)
    return [*rows[:20], msgspec.structs.replace(row, total=0.75), *rows[21:]]


def _change_account(rows: list[Row]) -> list[Row]:
    at = next(i for i, row in enumerate(rows) if isinstance(row, Watermark))
    row = rows[at]
    assert isinstance(row, Watermark)
    return [*rows[:at], msgspec.structs.replace(row, n_open=9), *rows[at + 1 :]]


def _invent(rows: list[Row]) -> list[Row]:
    row = rows[20]
    assert isinstance(row, Experience)
    origin = msgspec.structs.replace(row.origin, index=row.origin.index + 1)
    invented = msgspec.structs.replace(row, origin=origin, decision_id="invented")
    return [*rows[:21], invented, *rows[21:]]


@pytest.mark.parametrize(
    ("damage", "kind", "what", "n"),
    [
        (_drop, "lost", "decision d19 with origin 20.1 must be there; it is missing", 1),
        (_drop_last, "lost", "decision d64", 1),
        (_double, "doubled", "must be after", 5),
        (_change, "changed", "field total must be 0.25; got 0.75", 1),
        (_change_account, "changed", "the watermark at 10.0: field n_open must be 0; got 9", 1),
        (_invent, "extra", "decision invented", 1),
    ],
)
def test_proof_names_the_first_culprit_among_the_rows(
    damage: Callable[[list[Row]], list[Row]], kind: str, what: str, n: int
) -> None:
    log = _log()
    report = _prove(log, damage(_rows(log)))
    culprit = report.culprits[0]
    assert culprit.kind == kind
    assert what in culprit.what
    assert getattr(report, kind) == n
    assert culprit.where.startswith("t-experiences partition 0")


def test_proof_allows_rows_that_are_not_written_yet_where_it_is_told_to() -> None:
    log = _log()
    rows = _rows(log)
    report = _prove(log, rows[:-4], allow_behind=True)
    assert (report.culprits, report.behind, report.lost) == ([], 4, 0)


def test_balance_holds_wherever_the_writing_stands() -> None:
    log = _log()
    rows = _rows(log)
    for n in range(len(rows) + 1):  # watermarks and experiences in every mix are behind
        report = _prove(log, rows[:n], allow_behind=True)
        assert (report.culprits, report.behind, report.dead_decisions) == ([], len(rows) - n, 1)


def test_proof_finds_a_decision_that_was_settled_twice() -> None:
    log = _log(10)
    again = encode_pack([decision(3), outcome(3)])
    log.append(Record(0, len(log), 50, None, again))
    report = _prove(log, _rows(log))  # a fold that is wrong agrees with itself
    assert report.doubled == 1
    assert report.culprits[0].what == "1 decisions must be settled once; they are twice"


def _other_digest(windows: list[Window]) -> list[Window]:
    return [*windows, msgspec.structs.replace(windows[1], digest="00")]


def _wrong_digest(windows: list[Window]) -> list[Window]:
    return [msgspec.structs.replace(windows[0], digest="00"), *windows[1:]]


def _wrong_size(windows: list[Window]) -> list[Window]:
    return [msgspec.structs.replace(windows[0], n_rows=9), *windows[1:]]


def _missing(windows: list[Window]) -> list[Window]:
    return windows[1:]


def _invented(windows: list[Window]) -> list[Window]:
    return [*windows, msgspec.structs.replace(windows[0], window_id="toy/wolf/p0/999.0")]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (_other_digest, "must be announced with one digest"),
        (_wrong_digest, "must have digest"),
        (_wrong_size, "must have 10 rows by its rule; it was announced with 9"),
        (_missing, "must be announced: the archiver is further already"),
        (_invented, "must follow from the log; no such window does"),
    ],
)
def test_proof_names_the_first_culprit_among_the_windows(
    tmp_path: Path, damage: Callable[[list[Window]], list[Window]], what: str
) -> None:
    log = _log()
    rows = _rows(log)
    store, windows, progress = _archive(rows, tmp_path)
    report = _prove(log, rows, (store, damage(windows), progress))
    assert [c.kind for c in report.culprits][:1] == ["window"]
    assert what in report.culprits[0].what


def test_proof_names_a_file_with_other_bytes(tmp_path: Path) -> None:
    log = _log()
    rows = _rows(log)
    archive = _archive(rows, tmp_path)
    path = archive[1][2].files[0].path
    archive[0].put(path, b"x" + (archive[0].get(path) or b""))
    report = _prove(log, rows, archive)
    assert [(c.kind, path in c.what) for c in report.culprits] == [("file", True)]
    assert report.files == 4


@pytest.mark.integration
@pytest.mark.parametrize("processes", [1, 2])
def test_verify_proves_topics_and_archive(
    broker: str, topics_prefix: str, tmp_path: Path, processes: int
) -> None:
    kafka, topics = asyncio.run(make_topics(broker, topics_prefix))
    make, n = MakeToyFold(topics), 300
    options = VerifySettings(archive_url=str(tmp_path), processes=processes)
    told: list[VerifyProgress] = []

    async def play() -> None:
        async with EventWriter(kafka, topics, WriterSettings(pack_events=20)) as writer:
            for i in range(n):
                await writer.send(decision(i, f"actor-{i % 9}"))
                await writer.send(outcome(i, f"actor-{i % 9}"))
        producer = AIOKafkaProducer(**kafka.client(), transactional_id=f"{topics_prefix}x")
        await producer.start()
        await producer.begin_transaction()
        for p in range(2):
            for value in await _refold(p):
                await producer.send_and_wait(topics.experiences, value, partition=p)
        await producer.commit_transaction()
        await producer.stop()

    async def _refold(partition: int) -> list[bytes]:
        span = Span(partitions=[partition])
        fold = make(partition, {})
        log = [
            Record(partition, r.offset, r.timestamp, r.key, r.value)
            async for batch in read_records(kafka, topics.game_events, span)
            for r in batch
        ]
        return [o.value for o in fold.fold(log).outputs if o.value is not None]

    async def archive() -> Archiver:
        archiver = Archiver(
            ArchiverSettings(archive_url=str(tmp_path)), kafka, topics, {"toy": toy_game(20)}
        )
        await run_until(archiver.run, lambda: archiver.stats.rows == n and archiver.stats.lag == 0)
        return archiver

    async def forge() -> None:
        producer = AIOKafkaProducer(**kafka.client())
        await producer.start()
        window = await _first_window()
        forged = encode_window(msgspec.structs.replace(window, digest="00"))
        await producer.send_and_wait(topics.replay_windows, forged, partition=0)
        await producer.stop()

    async def _first_window() -> Window:
        async for at in read_topic(kafka, topics.replay_windows, lambda v: (decode_window(v),)):
            return at.row
        raise AssertionError

    asyncio.run(play())
    archiver = asyncio.run(archive())
    report = verify(kafka, topics, make, options, told.append)
    assert report.ok, report.culprit
    assert report.total("decisions") == report.total("settled") == report.total("experiences") == n
    assert report.total("windows") == report.announcements == archiver.stats.windows > 0
    assert report.total("unarchived") == archiver.stats.open_rows
    assert {p.partition for p in told} == {0, 1}
    asyncio.run(forge())
    forged = verify(kafka, topics, make, options)
    assert not forged.ok
    assert forged.culprit is not None
    assert forged.culprit.kind == "window"
