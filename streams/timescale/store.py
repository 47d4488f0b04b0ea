"""Rows and source offsets in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import msgspec
import psycopg

from schemas.database import DatabaseSettings
from schemas.packed import row_bytes
from schemas.records import Experience, Origin, Place, RowHead
from streams.timescale.capabilities import Capability, set_up
from streams.timescale.columns import NAMES
from streams.timescale.errors import DatabaseError, Overtaken
from streams.timescale.migrations import migrate, statements
from streams.timescale.wire import copy_stream

_STAGING = statements(
    f"""
CREATE TEMP TABLE IF NOT EXISTS staging WITH (toast_tuple_target = 8160) ON COMMIT DELETE ROWS AS
SELECT {", ".join(NAMES)} FROM experiences WITH NO DATA
"""
)
_COPY, _COPY_STAGING = (
    statements(f"COPY {table} ({', '.join(NAMES)}) FROM STDIN (FORMAT BINARY)")
    for table in ("experiences", "staging")
)
_INSERT = statements(
    f"""
INSERT INTO experiences ({", ".join(NAMES)})
SELECT {", ".join(NAMES)} FROM staging
ON CONFLICT DO NOTHING
"""
)
_SAME = """
SELECT s.decision_id, s.revision
FROM staging s
JOIN experiences e USING (decision_id, revision, decision_time)
WHERE (s.origin_partition, s.origin_offset, s.origin_index)
   <> (e.origin_partition, e.origin_offset, e.origin_index)
LIMIT 1
"""
_SESSION = """
SET synchronous_commit = off;
SET idle_in_transaction_session_timeout = '15s';
SET lock_timeout = '15s';
SET client_min_messages = warning;
SET timezone = 'UTC';
SET temp_buffers = '64MB'
"""
"""An answer before the disk's is enough: a crash of the server takes rows and offset back
together, and what they stood for is read again. And a sink that was stopped in a transaction must
not hold up the one that has taken its place: the server ends it where it is idle, its heir where it
is in the middle of a copy."""
_TURN = "SELECT pg_advisory_xact_lock(hashtext(%s), %s::int)"
_THROW_OUT = """
SELECT pg_terminate_backend(pid, 5000)
FROM pg_locks
WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid::bigint = (hashtext(%s)::bigint & 4294967295) AND objid = %s AND objsubid = 2
"""


class Batch(msgspec.Struct, frozen=True):
    """Rows of one partition and how far they take it."""

    partition: int
    first_offset: int
    """Where the database must stand."""
    place: Place
    """Where it stands afterwards."""
    rows: Sequence[Experience] | Sequence[RowHead]
    watermark_ms: int | None = None


class Store:
    """One connection to the database of a log; `topic` tells logs apart that share it."""

    def __init__(self, connection: psycopg.Connection[Any], topic: str) -> None:
        self.connection = connection
        self.capabilities: list[Capability] = []
        self._topic = topic

    @classmethod
    def open(cls, settings: DatabaseSettings, topic: str) -> Self:
        """Connect, and bring the schema up to date.

        Raises:
            DatabaseError: the schema is not ours, or is newer.
            psycopg.Error: nothing answers, or it refuses us.
        """
        connection = psycopg.connect(**settings.connection(), autocommit=True)
        try:
            connection.execute(_SESSION)
            migrate(connection)
            store = cls(connection, topic)
            store.capabilities = set_up(connection, settings.keep_days)
            connection.execute(_STAGING)
        except BaseException:
            connection.close()
            raise
        return store

    def close(self) -> None:
        """Close the connection; what was not committed is undone."""
        self.connection.close()

    def place(self, partition: int) -> Place:
        """Return how far a partition is stored, and make its row when there is none."""
        with self.connection.transaction():
            self.connection.execute(
                "INSERT INTO sink_offsets (topic, partition) VALUES (%s, %s) "
                "ON CONFLICT DO NOTHING",
                (self._topic, partition),
            )
            row = self.connection.execute(
                "SELECT next_offset, last_offset, last_index FROM sink_offsets "
                "WHERE topic = %s AND partition = %s",
                (self._topic, partition),
            ).fetchone()
        if row is None:
            msg = f"sink_offsets must have {self._topic} partition {partition}; it was removed"
            raise DatabaseError(msg)
        origin = None if row[1] is None else Origin(partition, row[1], row[2])
        return Place(row[0], origin)

    def write(self, batch: Batch) -> int:
        """Store a batch's rows and offset together; return how many rows were new.

        Rows behind the offset are new as a rule and are copied to where they stay. Where one is
        there already all go through a staging table, and those that are there are skipped.

        Raises:
            Overtaken: the database does not stand at `Batch.first_offset`; nothing was stored.
            DatabaseError: a row's key belongs to a row of another origin.
        """
        try:
            return self._write(batch, self._add)
        except psycopg.errors.UniqueViolation:
            return self._write(batch, self._add_missing)

    def _write(self, batch: Batch, add: Callable[[Batch], int]) -> int:
        try:
            return self._write_once(batch, add)
        except psycopg.errors.LockNotAvailable:
            values = (self._topic, batch.partition)
            if not self.connection.execute(_THROW_OUT, values).fetchall():
                raise
        return self._write_once(batch, add)

    def _write_once(self, batch: Batch, add: Callable[[Batch], int]) -> int:
        with self.connection.transaction():
            self._lock(batch)
            n_new = add(batch) if batch.rows else 0
            self._advance(batch, n_new)
        return n_new

    def _add(self, batch: Batch) -> int:
        """Store rows of which none is there; raises UniqueViolation where one is."""
        self._copy(_COPY, batch.rows)
        return len(batch.rows)

    def _add_missing(self, batch: Batch) -> int:
        """Store those rows that are not there; return how many they were."""
        self._copy(_COPY_STAGING, batch.rows)
        n_new = self.connection.execute(_INSERT).rowcount
        if n_new < len(batch.rows):
            self._check_repeats()
        return n_new

    def _copy(self, how: bytes, rows: Sequence[Experience] | Sequence[RowHead]) -> None:
        with self.connection.cursor() as cursor, cursor.copy(how) as copy:
            for part in copy_stream([row_bytes(row) for row in rows]):
                copy.write(part)

    def _lock(self, batch: Batch) -> None:
        """Wait for the partition's turn, and make sure that the batch is the next one."""
        self.connection.execute(_TURN, (self._topic, batch.partition))
        row = self.connection.execute(
            "SELECT next_offset FROM sink_offsets WHERE topic = %s AND partition = %s FOR UPDATE",
            (self._topic, batch.partition),
        ).fetchone()
        stored = 0 if row is None else int(row[0])
        if row is None or stored != batch.first_offset:
            raise Overtaken(stored)

    def _check_repeats(self) -> None:
        """Make sure that rows which were there already are the same ones, read again."""
        row = self.connection.execute(_SAME).fetchone()
        if row is not None:
            msg = (
                f"decision {row[0]} revision {row[1]} must come from one place in the log; the "
                f"database has it from another: two logs share it (give each its own "
                f"timescale.database)"
            )
            raise DatabaseError(msg)

    def _advance(self, batch: Batch, n_new: int) -> None:
        origin = batch.place.last_origin
        self.connection.execute(
            "UPDATE sink_offsets SET next_offset = %s, last_offset = %s, last_index = %s, "
            "watermark = coalesce(timestamptz 'epoch' + %s * interval '1 millisecond', watermark), "
            "n_rows = n_rows + %s, updated_at = now() WHERE topic = %s AND partition = %s",
            (
                batch.place.next_offset,
                None if origin is None else origin.offset,
                None if origin is None else origin.index,
                batch.watermark_ms,
                n_new,
                self._topic,
                batch.partition,
            ),
        )
