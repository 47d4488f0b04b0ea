"""Whether the sink's database holds what the archive's windows hold."""

import asyncio
import os
from collections.abc import Callable

import msgspec
import psycopg

from schemas.database import DatabaseSettings
from schemas.kafka import KafkaSettings
from schemas.records import Window, decode_window
from schemas.topics import Topics
from streams.pool import Tell, run_each
from streams.reader import read_records
from streams.timescale.stored import window_digest
from streams.verify import Culprit

_WINDOWS_A_PROCESS = 16
"""With fewer, starting a process takes longer than what it compares."""


async def _announced(kafka: KafkaSettings, topics: Topics) -> dict[str, Window]:
    found: dict[str, Window] = {}
    async for batch in read_records(kafka, topics.replay_windows):
        for record in batch:
            window = decode_window(record.value)
            found[window.window_id] = window
    return found


class _Job(msgspec.Struct, frozen=True):
    database: DatabaseSettings
    windows: list[Window]


def _compare(job: _Job, tell: Tell) -> Culprit | None:
    """The first of some windows whose rows differ."""
    with psycopg.connect(**job.database.connection(), autocommit=True) as connection:
        for window in job.windows:
            try:
                digest = window_digest(connection, window)
            except ValueError as error:
                return Culprit(kind="database", where=window.window_id, what=str(error))
            if digest != window.digest:
                what = f"the database's rows must have digest {window.digest}; got {digest}"
                return Culprit(kind="database", where=window.window_id, what=what)
            tell(1)
    return None


def check_stored(
    kafka: KafkaSettings,
    topics: Topics,
    database: DatabaseSettings,
    live: bool = False,
    processes: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[int, list[Culprit]]:
    """How many announced windows the database was compared with, and those that differ.

    `live` leaves out windows that the sink has not come to yet. Each process, one a core unless
    `processes` says otherwise, stops at the first that differs. `on_progress` takes how many
    windows of how many are compared. Raises `psycopg.Error` when the database does not answer or
    has no tables of ours.
    """
    windows = list(asyncio.run(_announced(kafka, topics)).values())
    if live:
        newest = _newest(database)
        windows = [w for w in windows if newest.get(w.partition, -1) > w.last_origin.offset]
    compared = 0

    def count(n: int) -> None:
        nonlocal compared
        compared += n
        if on_progress is not None:
            on_progress(compared, len(windows))

    n = processes or min(os.cpu_count() or 1, len(windows) // _WINDOWS_A_PROCESS) or 1
    jobs = [_Job(database, windows[i::n]) for i in range(n)]
    found = run_each(jobs, _compare, n, count)
    culprits = [culprit for culprit in found if culprit is not None]
    return compared + len(culprits), culprits


def _newest(database: DatabaseSettings) -> dict[int, int]:
    """The last offset that the sink has stored of each partition."""
    with psycopg.connect(**database.connection(), autocommit=True) as connection:
        query = "SELECT origin_partition, max(origin_offset) FROM experiences GROUP BY 1"
        return dict(connection.execute(query).fetchall())
