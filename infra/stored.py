"""Whether the sink's database holds what the archive's windows hold."""

import asyncio

import psycopg

from schemas.database import DatabaseSettings
from schemas.kafka import KafkaSettings
from schemas.records import Window, decode_window
from schemas.topics import Topics
from streams.reader import read_records
from streams.timescale import window_digest
from streams.verify import Culprit


async def _announced(kafka: KafkaSettings, topics: Topics) -> dict[str, Window]:
    found: dict[str, Window] = {}
    async for batch in read_records(kafka, topics.replay_windows):
        for record in batch:
            window = decode_window(record.value)
            found[window.window_id] = window
    return found


def check_stored(
    kafka: KafkaSettings, topics: Topics, database: DatabaseSettings, live: bool = False
) -> tuple[int, list[Culprit]]:
    """How many announced windows the database was compared with, and the first that differs.

    `live` leaves out windows that the sink has not come to yet. Raises `psycopg.Error` when the
    database does not answer or has no tables of ours.
    """
    windows = asyncio.run(_announced(kafka, topics))
    compared = 0
    with psycopg.connect(**database.connection(), autocommit=True) as connection:
        newest = dict(
            connection.execute(
                "SELECT origin_partition, max(origin_offset) FROM experiences GROUP BY 1"
            ).fetchall()
        )
        for window in windows.values():
            if live and newest.get(window.partition, -1) <= window.last_origin.offset:
                continue
            compared += 1
            digest = window_digest(connection, window)
            if digest != window.digest:
                what = f"the database's rows must have digest {window.digest}; got {digest}"
                return compared, [Culprit(kind="database", where=window.window_id, what=what)]
    return compared, []
