"""What a database holds, read back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import psycopg

from schemas.arrow import rows_digest
from schemas.database import DatabaseSettings
from schemas.records import Experience, Window
from streams.timescale.capabilities import Capability, read_capabilities
from streams.timescale.columns import SELECT, row_of
from streams.timescale.errors import DatabaseError
from streams.timescale.migrations import statements


def stored_rows(
    connection: psycopg.Connection[Any], where: str = "true", values: Sequence[Any] = ()
) -> Iterator[Experience]:
    """Yield stored rows in the order of their origins, as many as meet a condition of ours."""
    query = statements(
        f"SELECT {SELECT} FROM experiences WHERE {where} "
        "ORDER BY origin_partition, origin_offset, origin_index"
    )
    with connection.transaction(), connection.cursor("stored_rows", binary=True) as cursor:
        cursor.itersize = 1_000
        cursor.execute(query, values)
        for row in cursor:
            yield row_of(row)


def stored_digests(connection: psycopg.Connection[Any]) -> dict[int, str]:
    """Return the digest of each partition's rows, as `schemas.arrow.rows_digest` gives it."""
    found = connection.execute("SELECT DISTINCT origin_partition FROM experiences").fetchall()
    partitions = sorted(int(row[0]) for row in found)
    return {
        p: rows_digest(stored_rows(connection, "origin_partition = %s", (p,))) for p in partitions
    }


def window_digest(connection: psycopg.Connection[Any], window: Window) -> str:
    """Return the digest of the stored rows that an announced window should hold, to compare.

    Raises:
        ValueError: the window's digest is by an algorithm that is not known.
    """
    first, last = window.first_origin, window.last_origin
    where = (
        "game = %s AND archetype = %s AND origin_partition = %s AND "
        "(origin_offset, origin_index) BETWEEN (%s, %s) AND (%s, %s)"
    )
    values = (
        window.game,
        window.archetype,
        window.partition,
        first.offset,
        first.index,
        last.offset,
        last.index,
    )
    return rows_digest(stored_rows(connection, where, values), like=window.digest)


class Stored(msgspec.Struct, frozen=True):
    """What a database says about itself."""

    offsets: dict[int, int]
    """Next offset by partition."""
    n_rows: int
    capabilities: list[Capability]


def look(settings: DatabaseSettings, topic: str) -> Stored:
    """Return how far a database is, without changing it.

    Raises:
        DatabaseError: there is no schema of ours yet.
        psycopg.Error: nothing answers, or it refuses us.
    """
    with psycopg.connect(**settings.connection(), autocommit=True) as connection:
        try:
            rows = connection.execute(
                "SELECT partition, next_offset, n_rows FROM sink_offsets WHERE topic = %s", (topic,)
            ).fetchall()
            capabilities = read_capabilities(connection)
        except psycopg.errors.UndefinedTable as error:
            msg = f"{settings.where} must have the sink's tables; it has none: run the sink once"
            raise DatabaseError(msg) from error
    offsets = {int(row[0]): int(row[1]) for row in rows}
    return Stored(offsets, sum(int(row[2]) for row in rows), capabilities)
