"""The sink process: `experiences` in, rows of a database out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import psycopg
import structlog

from schemas.database import DatabaseSettings
from schemas.kafka import KafkaSettings
from schemas.records import Origin, Place, RowHead, Watermark, decode_heads
from schemas.topics import Topics
from streams.group import GroupReader, GroupSettings, Part
from streams.timescale.capabilities import drop_old
from streams.timescale.errors import DatabaseError, Overtaken, is_away
from streams.timescale.store import Batch, Store

_log = structlog.get_logger(__name__)

_BACKOFF_S, _BACKOFF_MAX_S = 0.2, 5.0
_DROP_EVERY_S = 3600.0
"""Rows that are too old are dropped as often, where the database does not do it by itself."""


class SinkSettings(GroupSettings, frozen=True, kw_only=True):
    """Where rows go and how they are read."""

    database: DatabaseSettings
    group: str = "sink"
    fetch_min_bytes: int = 200_000


class SinkStats(msgspec.Struct):
    """What a sink has done since it started."""

    rows: int = 0
    """Rows that were new to the database."""
    skipped: int = 0
    """Rows that it had already."""
    repeated: int = 0
    """Rows dropped because their origin did not rise."""
    batches: int = 0
    overtaken: int = 0
    """Batches given up because another sink was further."""
    outages: int = 0
    away: bool = False
    """Whether the database is away."""
    lag: int | None = None
    """As the archiver's."""
    partitions: int = 0


class Sink:
    """Reads its share of `experiences` and stores it. The database owns the offsets.

    A kill at any place, of the sink or of the database, undoes a whole batch or nothing of it.
    """

    def __init__(self, settings: SinkSettings, kafka: KafkaSettings, topics: Topics) -> None:
        self.stats = SinkStats()
        self._settings = settings
        self._kafka = kafka
        self._topics = topics
        self._store: Store | None = None
        self._backoff_s = _BACKOFF_S
        self._dropped_at = 0.0

    async def run(self, stop: asyncio.Event) -> SinkStats:
        """Store until `stop` is set. While the database is away, wait and try again.

        Raises:
            DatabaseError: the log and the database contradict each other, or it refuses us.
            KafkaError: Kafka refuses to be read.
        """
        reader = GroupReader[Place](self._kafka, self._topics, self._settings, self)
        try:
            await reader.start()
            while not stop.is_set():
                try:
                    await self._step(reader)
                except psycopg.Error as error:
                    await self._mend(error, reader, stop)
        finally:
            await reader.stop()
            self._disconnect()
        return self.stats

    async def open_partition(self, partition: int) -> tuple[Place, int]:
        """Return how far the database has a partition."""
        store = await self._connect()
        place = await asyncio.to_thread(store.place, partition)
        return place, place.next_offset

    def lost(self, where: str, partition: int, wanted: int, begin: int) -> Exception:
        """Return the error for a log that was cut off in front of the database's end."""
        msg = (
            f"{where} must be kept from offset {wanted}; it begins at {begin}: rows were deleted "
            f"before they were stored (lengthen the topic's retention; to go on behind the gap: "
            f"UPDATE sink_offsets SET next_offset = {begin} WHERE topic = "
            f"'{self._topics.experiences}' AND partition = {partition})"
        )
        return DatabaseError(msg)

    def ahead(self, where: str, wanted: int, end: int) -> Exception:
        """Return the error for a database of another log."""
        msg = (
            f"{where} must reach offset {wanted}, where its rows in the database end; it ends at "
            f"{end}: the database is of another log (give another timescale.database)"
        )
        return DatabaseError(msg)

    async def _step(self, reader: GroupReader[Place]) -> None:
        for part, records in await reader.take():
            batch = _batch(part, records)
            if batch is None:
                continue
            self.stats.repeated += batch.repeated
            await self._write(part, batch.batch)
            await asyncio.sleep(0)
        self.stats.partitions = len(reader.parts)
        self.stats.lag = await reader.lag()
        await self._drop_old()

    async def _write(self, part: Part[Place], batch: Batch) -> None:
        store = await self._connect()
        try:
            n_new = await asyncio.to_thread(store.write, batch)
        except Overtaken as other:
            _log.warning("sink.overtaken", partition=batch.partition, offset=other.next_offset)
            self.stats.overtaken += 1
            part.state = None  # the database says where to go on
            return
        part.state, part.next_offset = batch.place, batch.place.next_offset
        self._backoff_s = _BACKOFF_S
        self.stats.batches += 1
        self.stats.rows += n_new
        self.stats.skipped += len(batch.rows) - n_new

    async def _connect(self) -> Store:
        if self._store is None:
            database = self._settings.database
            store = await asyncio.to_thread(Store.open, database, self._topics.experiences)
            self._store, self.stats.away = store, False
            _log.info(
                "sink.connected",
                database=database.where,
                **{c.name: c.state for c in store.capabilities},
            )
        return self._store

    def _disconnect(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    async def _mend(
        self, error: psycopg.Error, reader: GroupReader[Place], stop: asyncio.Event
    ) -> None:
        """Let go of a broken connection; the next step makes one and asks where to go on."""
        self._disconnect()
        where = self._settings.database.where
        said = " ".join(str(error).split())
        if not is_away(error):
            msg = f"the database {where} must take our rows; it answers: {said}"
            raise DatabaseError(msg) from error
        if not self.stats.away:
            self.stats.away, self.stats.outages = True, self.stats.outages + 1
            _log.warning("sink.database_away", database=where, error=said)
        reader.forget()
        try:
            await asyncio.wait_for(stop.wait(), self._backoff_s)
        except TimeoutError:
            self._backoff_s = min(self._backoff_s * 2, _BACKOFF_MAX_S)

    async def _drop_old(self) -> None:
        keep_days = self._settings.database.keep_days
        now = time.monotonic()
        if keep_days is None or self._store is None or now < self._dropped_at + _DROP_EVERY_S:
            return
        await asyncio.to_thread(drop_old, self._store.connection, keep_days)
        self._dropped_at = now


class _Decoded(msgspec.Struct, frozen=True):
    batch: Batch
    repeated: int


def _batch(part: Part[Place], records: list[Any]) -> _Decoded | None:
    """Return what records say, as one batch; None where there is nothing to do."""
    if part.state is None or not records:
        return None
    rows: list[RowHead] = []
    last: Origin | None = part.state.last_origin
    watermark_ms: int | None = None
    repeated = 0
    for record in records:
        for row in decode_heads(record.value):
            if last is not None and row.origin <= last:
                repeated += 1  # a log that was copied, as the archiver has it
                continue
            last = row.origin
            if isinstance(row, RowHead):
                rows.append(row)
            elif isinstance(row, Watermark):
                watermark_ms = row.watermark_ms
    place = Place(records[-1].offset + 1, last)
    batch = Batch(part.tp.partition, part.next_offset, place, rows, watermark_ms)
    return _Decoded(batch, repeated)


async def run_sink(
    settings: SinkSettings, kafka: KafkaSettings, topics: Topics, *, stop: asyncio.Event
) -> SinkStats:
    """Run a sink until `stop` is set and return what it did; see `Sink.run`."""
    return await Sink(settings, kafka, topics).run(stop)
