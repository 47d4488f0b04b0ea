"""The archiver against a real broker: the same archive whatever is killed or shared."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from schemas.kafka import KafkaSettings
from schemas.records import Place, Row, Window, WindowRule, decode_window
from schemas.topics import Topics
from streams.archive import read_window
from streams.archiver.service import Archiver, ArchiverSettings
from streams.archiver.state import load_progress, save_progress, state_path
from streams.archiver.store import ArchiveError, ArchiveStore
from streams.archiver.windows import Progress, WindowFold
from streams.reader import read_topic
from tests.streams.streamkit import (
    make_topics,
    rows_of_log,
    rule_of,
    run_until,
    toy_game,
    write_rows,
)

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def _wanted(rows: Sequence[Row], partition: int, max_rows: int = 50) -> dict[str, int]:
    """Return the windows that follow from the rows: id and number of rows."""
    rule = WindowRule(max_rows=max_rows, max_span_ms=400)
    fold = WindowFold(partition, rule_of(rule))
    return {w.window_id: len(w.rows) for w in fold.take(0, rows)}


async def _announced(kafka: KafkaSettings, topics: Topics) -> list[Window]:
    decode = read_topic(kafka, topics.replay_windows, lambda v: (decode_window(v),))
    return [at.row async for at in decode]


def _files(folder: Path) -> dict[str, str]:
    """Return the digest of each window file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


def _archiver(kafka: KafkaSettings, topics: Topics, url: str, max_rows: int = 50) -> Archiver:
    settings = ArchiverSettings(archive_url=url, session_timeout_ms=6_000)
    return Archiver(settings, kafka, topics, {"toy": toy_game(max_rows)})


async def _archive(archiver: Archiver, n_windows: int) -> None:
    await run_until(archiver.run, lambda: archiver.stats.windows >= n_windows)


def test_archiver_writes_and_announces_the_windows_of_the_log(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        wanted: dict[str, int] = {}
        for p in range(2):
            rows = rows_of_log(p, 700)
            await write_rows(kafka, topics, p, [*rows[:100], *rows[50:]])  # 50 come again
            wanted |= _wanted(rows, p)
        archiver = _archiver(kafka, topics, str(tmp_path))
        done = lambda: archiver.stats.windows >= len(wanted) and archiver.stats.lag == 0  # noqa: E731
        await run_until(archiver.run, done)
        windows = await _announced(kafka, topics)
        assert {w.window_id: w.n_rows for w in windows} == wanted
        assert len(windows) == len(wanted)
        store = ArchiveStore.open(str(tmp_path))
        assert [len(read_window(store, w)) for w in windows] == [w.n_rows for w in windows]
        stats = archiver.stats
        assert (stats.windows, stats.partitions, stats.repeated) == (len(wanted), 2, 100)
        assert stats.rows == sum(wanted.values()) + stats.open_rows
        again = _archiver(kafka, topics, str(tmp_path))  # goes on where the first one stopped
        await run_until(again.run, lambda: again.stats.open_rows == stats.open_rows)
        assert again.stats.windows == 0

    asyncio.run(work())


def _spawn(broker: str, prefix: str, url: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.streams.archiver_worker", broker, prefix, url]
    with log.open("ab") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)


@pytest.mark.slow
def test_archiver_gives_the_same_archive_when_it_is_killed_again_and_again(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    n = 6_000

    async def write() -> tuple[KafkaSettings, Topics, dict[str, int]]:
        kafka, topics = await make_topics(broker, topics_prefix)
        logs = [rows_of_log(p, n) for p in range(2)]
        await asyncio.gather(*(write_rows(kafka, topics, p, rows) for p, rows in enumerate(logs)))
        return kafka, topics, _wanted(logs[0], 0) | _wanted(logs[1], 1)

    kafka, topics, wanted = asyncio.run(write())
    killed, quiet = tmp_path / "killed", tmp_path / "quiet"
    log = tmp_path / "log"
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for i in range(6):  # two at a time; each lives for some windows
            workers.append(_spawn(broker, topics_prefix, str(killed), log))
            if len(workers) > 2:
                workers[i - 2].kill()
            before, deadline = len(_files(killed)), time.monotonic() + 15
            while len(_files(killed)) < before + 5 and time.monotonic() < deadline:
                time.sleep(0.01)
        deadline = time.monotonic() + 90
        while len(_files(killed)) < len(wanted) and time.monotonic() < deadline:
            time.sleep(0.1)
        for worker in workers[-2:]:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0, log.read_text()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    async def judge() -> None:
        windows = {w.window_id: w for w in await _announced(kafka, topics)}
        assert {name: w.n_rows for name, w in windows.items()} == wanted
        store = ArchiveStore.open(str(killed))
        for window in windows.values():
            read_window(store, window)
        other = ArchiverSettings(archive_url=str(quiet), group="quiet")
        archiver = Archiver(other, kafka, topics, {"toy": toy_game()})
        await _archive(archiver, len(wanted))

    asyncio.run(judge())
    assert _files(killed) == _files(quiet)


@pytest.mark.slow
def test_two_archivers_that_do_not_know_of_each_other_agree(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        rows = rows_of_log(0, 2_000)
        await write_rows(kafka, topics, 0, rows)
        wanted = _wanted(rows, 0)
        racing = [
            Archiver(
                ArchiverSettings(archive_url=str(tmp_path), group=f"group-{i}"),
                kafka,
                topics,
                {"toy": toy_game()},
            )
            for i in range(2)
        ]
        await asyncio.gather(*(_archive(archiver, len(wanted)) for archiver in racing))
        windows = await _announced(kafka, topics)
        assert {w.window_id for w in windows} == set(wanted)
        assert all(w == v for w in windows for v in windows if w.window_id == v.window_id)

    asyncio.run(work())


def test_archiver_refuses_an_archive_that_is_ahead_of_the_log(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        await write_rows(kafka, topics, 0, rows_of_log(0, 60))
        store = ArchiveStore.open(str(tmp_path))
        save_progress(store, topics.experiences, Progress(partition=0, place=Place(900)))
        archiver = _archiver(kafka, topics, str(tmp_path))
        with pytest.raises(ArchiveError, match="must reach offset 900, where its archive ends"):
            await run_until(archiver.run, lambda: False, 30)

    asyncio.run(work())


def test_archiver_refuses_a_game_that_is_not_described(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        await write_rows(kafka, topics, 0, rows_of_log(0, 10))
        archiver = Archiver(ArchiverSettings(archive_url=str(tmp_path)), kafka, topics, {})
        with pytest.raises(ArchiveError, match="got toy: describe it"):
            await run_until(archiver.run, lambda: False, 30)

    asyncio.run(work())


def test_archiver_ends_on_a_damaged_state_file(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        store = ArchiveStore.open(str(tmp_path))
        store.put(state_path(topics.experiences, 1), b"{")
        with pytest.raises(ArchiveError, match="remove it to archive from the start"):
            await run_until(_archiver(kafka, topics, str(tmp_path)).run, lambda: False, 30)
        assert load_progress(store, topics.experiences, 0) is None

    asyncio.run(work())
