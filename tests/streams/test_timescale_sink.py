"""The sink against a real broker and real databases: what the log says, whatever is killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psycopg
import pytest
from aiokafka import AIOKafkaProducer

from infra.stored import check_stored
from schemas.arrow import rows_digest
from schemas.database import DatabaseSettings
from schemas.kafka import KafkaSettings
from schemas.records import Experience, Row, decode_window, encode_window
from schemas.topics import Topics
from streams.archiver.service import Archiver, ArchiverSettings
from streams.reader import read_topic
from streams.timescale.errors import DatabaseError
from streams.timescale.service import Sink, SinkSettings
from streams.timescale.store import Store
from streams.timescale.stored import look, stored_digests, window_digest
from tests.streams.databases import Server, fresh_database, open_server
from tests.streams.streamkit import make_topics, rows_of_log, run_until, toy_game, write_rows
from tests.support import eventually, eventually_async

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def _sink(kafka: KafkaSettings, topics: Topics, database: DatabaseSettings) -> Sink:
    settings = SinkSettings(database=database, session_timeout_ms=6_000, max_records=3)
    return Sink(settings, kafka, topics)


def _experiences(rows: Sequence[Row]) -> list[Experience]:
    return [row for row in rows if isinstance(row, Experience)]


def _digests(database: DatabaseSettings) -> dict[int, str]:
    with psycopg.connect(**database.connection(), autocommit=True) as connection:
        return stored_digests(connection)


def _n_rows(database: DatabaseSettings, topics: Topics) -> int:
    try:
        return look(database, topics.experiences).n_rows
    except (psycopg.Error, DatabaseError):
        return -1


async def _log(
    broker: str, prefix: str, n: int
) -> tuple[KafkaSettings, Topics, dict[int, str], int]:
    """A log of two partitions, what its rows' digests are, and how many there are."""
    kafka, topics = await make_topics(broker, prefix)
    logs = [rows_of_log(p, n) for p in range(2)]
    await asyncio.gather(*(write_rows(kafka, topics, p, rows) for p, rows in enumerate(logs)))
    told = [_experiences(rows) for rows in logs]
    wanted = {p: rows_digest(rows) for p, rows in enumerate(told)}
    return kafka, topics, wanted, sum(map(len, told))


def test_sink_stores_the_log_and_equals_the_archive(
    broker: str, topics_prefix: str, database: DatabaseSettings, tmp_path: Path
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        rows = rows_of_log(0, 600)
        await write_rows(kafka, topics, 0, [*rows[:100], *rows[50:]])  # 50 come again
        sink = _sink(kafka, topics, database)
        total = len(_experiences(rows))
        await run_until(sink.run, lambda: sink.stats.rows >= total and sink.stats.lag == 0)
        assert (sink.stats.rows, sink.stats.repeated, sink.stats.skipped) == (total, 50, 0)
        again = _sink(kafka, topics, database)  # goes on where the first one stopped
        # the mark that ends a partition's last transaction is nothing left to read
        await run_until(again.run, lambda: again.stats.partitions == 2 and again.stats.lag == 0)
        assert (again.stats.rows, again.stats.skipped) == (0, 0)
        archiver = Archiver(
            ArchiverSettings(archive_url=str(tmp_path)), kafka, topics, {"toy": toy_game()}
        )
        await run_until(archiver.run, lambda: archiver.stats.windows > 5)
        windows = [
            at.row
            async for at in read_topic(kafka, topics.replay_windows, lambda v: (decode_window(v),))
        ]
        with psycopg.connect(**database.connection(), autocommit=True) as connection:
            assert {w.window_id: window_digest(connection, w) for w in windows} == {
                w.window_id: w.digest for w in windows
            }

    asyncio.run(work())


def test_database_is_proven_to_hold_every_window(
    broker: str, topics_prefix: str, database: DatabaseSettings, tmp_path: Path
) -> None:
    kafka, topics = KafkaSettings(bootstrap_servers=broker), Topics(topics_prefix)
    rows = rows_of_log(0, 600)
    total = len(_experiences(rows))

    async def work() -> int:
        await make_topics(broker, topics_prefix)
        await write_rows(kafka, topics, 0, rows)
        sink = _sink(kafka, topics, database)
        await run_until(sink.run, lambda: sink.stats.rows >= total)  # its lag is told later
        archiver = Archiver(
            ArchiverSettings(archive_url=str(tmp_path)), kafka, topics, {"toy": toy_game()}
        )
        await run_until(archiver.run, lambda: archiver.stats.windows > 5)
        return archiver.stats.windows

    n_windows = asyncio.run(work())
    assert check_stored(kafka, topics, database) == (n_windows, [])
    assert check_stored(kafka, topics, database, processes=2) == (n_windows, [])
    with psycopg.connect(**database.connection(), autocommit=True) as connection:
        connection.execute(
            "UPDATE experiences SET action = action + 1 WHERE origin_offset = "
            "(SELECT max(origin_offset) / 2 FROM experiences)"
        )
    compared, (culprit,) = check_stored(kafka, topics, database)
    assert 0 < compared <= n_windows
    assert culprit.kind == "database"
    assert "must have digest" in culprit.what
    asyncio.run(_announce_again(kafka, topics, digest="crc:00"))
    compared, (culprit,) = check_stored(kafka, topics, database)
    assert compared == 1
    assert "crc" in culprit.what


async def _announce_again(kafka: KafkaSettings, topics: Topics, digest: str) -> None:
    """Announce all windows with another digest."""
    windows = [
        at.row
        async for at in read_topic(kafka, topics.replay_windows, lambda v: (decode_window(v),))
    ]
    producer = AIOKafkaProducer(**kafka.client())
    await producer.start()
    try:
        for window in windows:
            value = encode_window(msgspec.structs.replace(window, digest=digest))
            key = f"{window.game}/{window.archetype}".encode()
            await producer.send_and_wait(topics.replay_windows, value, key)
    finally:
        await producer.stop()


def test_racing_sinks_of_two_groups_agree(
    broker: str, topics_prefix: str, database: DatabaseSettings
) -> None:
    async def work() -> None:
        kafka, topics, wanted, total = await _log(broker, topics_prefix, 900)
        settings = SinkSettings(database=database, max_records=2)
        racing = [
            Sink(msgspec.structs.replace(settings, group=f"g{i}"), kafka, topics) for i in range(2)
        ]
        done = lambda: sum(s.stats.rows for s in racing) >= total  # noqa: E731
        await asyncio.gather(*(run_until(sink.run, done) for sink in racing))
        assert _digests(database) == wanted
        assert look(database, topics.experiences).n_rows == total

    asyncio.run(work())


def _spawn(
    broker: str, prefix: str, database: DatabaseSettings, log: Path
) -> subprocess.Popen[bytes]:
    told = msgspec.json.encode(database).decode()
    command = [sys.executable, "-m", "tests.streams.sink_worker", broker, prefix, told]
    with log.open("ab") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)


@pytest.mark.slow
def test_sink_loses_and_doubles_nothing_when_it_is_killed_and_stopped(
    broker: str, topics_prefix: str, database: DatabaseSettings, tmp_path: Path
) -> None:
    kafka, topics, wanted, total = asyncio.run(_log(broker, topics_prefix, 6_000))
    log = tmp_path / "log"
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for i in range(5):  # two at a time; one is killed, the next stopped and woken later
            workers.append(_spawn(broker, topics_prefix, database, log))
            if i >= 2:
                workers[i - 2].send_signal(signal.SIGSTOP if i % 3 == 0 else signal.SIGKILL)
            before = _n_rows(database, topics)
            eventually(
                lambda n=before: _n_rows(database, topics) > min(n + 20, total - 1),  # type: ignore[misc]
                30,
                "rows",
            )
        eventually(lambda: _n_rows(database, topics) == total, 90, f"{total} rows")
        for worker in workers:
            worker.send_signal(signal.SIGCONT)
        for worker in workers[-2:]:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0, log.read_text()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert _digests(database) == wanted
    assert _n_rows(database, topics) == total


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["plain", "tree"])
def test_database_stopped_in_mid_batch_and_back(
    broker: str, topics_prefix: str, backend: str, scratch: Path
) -> None:
    async def work(server: Server, database: DatabaseSettings) -> None:
        kafka, topics, wanted, total = await _log(broker, topics_prefix, 4_000)
        local = server.local
        assert local is not None
        sink = _sink(kafka, topics, database)
        stop = asyncio.Event()
        running = asyncio.create_task(sink.run(stop))
        for share in (0.05, 0.2, 0.5):
            mark = int(total * share)
            await eventually_async(lambda m=mark: _at_least(sink, m), 60, "rows")  # type: ignore[misc]
            await asyncio.to_thread(local.kill)
            await eventually_async(lambda: _true(sink.stats.away), 30, "an outage")
            await asyncio.to_thread(local.start)
        done = lambda: _true(_n_rows(database, topics) == total)  # noqa: E731
        await eventually_async(done, 60, f"{total} rows")
        stop.set()
        await running
        assert sink.stats.outages == 3
        assert _digests(database) == wanted

    with open_server(backend, scratch / "stopped") as server, fresh_database(server) as database:
        asyncio.run(work(server, database))


async def _at_least(sink: Sink, n: int) -> bool:
    return sink.stats.rows >= n


async def _true(value: bool) -> bool:
    return value


def test_sink_refuses_a_database_that_is_ahead_of_the_log(
    broker: str, topics_prefix: str, database: DatabaseSettings
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        await write_rows(kafka, topics, 0, rows_of_log(0, 60))
        store = Store.open(database, topics.experiences)
        store.place(0)
        store.connection.execute("UPDATE sink_offsets SET next_offset = 900")
        store.close()
        with pytest.raises(DatabaseError, match="must reach offset 900, where its rows"):
            await run_until(_sink(kafka, topics, database).run, lambda: False, 30)

    asyncio.run(work())


def test_sink_refuses_a_wrong_password_at_once(
    broker: str, topics_prefix: str, database: DatabaseSettings
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        wrong = msgspec.structs.replace(database, password="not-this-one")
        with pytest.raises(DatabaseError, match="password authentication failed") as caught:
            await run_until(_sink(kafka, topics, wrong).run, lambda: False, 30)
        assert "not-this-one" not in str(caught.value)

    asyncio.run(work())
