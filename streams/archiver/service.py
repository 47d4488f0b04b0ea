"""The archiver process: `experiences` in, Parquet windows and their announcements out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    TopicPartition,
)

from schemas.game import Game
from schemas.kafka import KafkaSettings
from schemas.records import Experience, WindowRule, decode_rows, encode_window
from schemas.topics import Topics
from streams.archiver.files import Compression, store_window
from streams.archiver.state import load_progress, save_progress, state_path
from streams.archiver.store import ArchiveError, ArchiveStore
from streams.archiver.windows import SealedWindow, WindowFold

_log = structlog.get_logger(__name__)


class ArchiverSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the archive lies and how it is read and written."""

    archive_url: str
    """A folder, ``file:///folder``, ``s3://bucket/prefix`` or what else `pyarrow.fs` opens."""
    group: str = "archiver"
    """Archivers of one group share the partitions."""
    compression: Compression = "zstd"
    session_timeout_ms: int = 10_000
    """After this long without a sign of life a dead archiver's partitions move to another."""
    max_records: int = 200
    """Packs taken at once."""
    fetch_bytes: int = 4_000_000
    """What is fetched ahead, a partition."""
    fetch_min_bytes: int = 500_000
    fetch_wait_ms: int = 300
    """The broker waits for so much or so long: a window takes seconds to fill anyway."""


class ArchiverStats(msgspec.Struct):
    """What an archiver has done since it started."""

    rows: int = 0
    windows: int = 0
    bytes: int = 0
    """Size of the files written."""
    repeated: int = 0
    """Rows dropped because their origin did not rise."""
    open_rows: int = 0
    lag: int = 0
    """Offsets between what is read and what is committed, all partitions."""
    partitions: int = 0


class _Source:
    """One partition that this archiver owns."""

    def __init__(self, fold: WindowFold, next_offset: int) -> None:
        self.fold = fold
        self.next_offset = next_offset
        self.proven = False
        """Whether the reader stands where the state says; see `_Reader.accept`."""
        self.asked: tuple[int, int] | None = None


class Archiver(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads its share of `experiences` and writes the windows that are sealed.

    A window's file is stored, then announced, then the state file advances, so a kill at any place
    repeats work with the same result and loses none.
    """

    def __init__(
        self,
        settings: ArchiverSettings,
        kafka: KafkaSettings,
        topics: Topics,
        games: Mapping[str, Game],
    ) -> None:
        self.stats = ArchiverStats()
        self._settings = settings
        self._kafka = kafka
        self._topics = topics
        self._games = games
        self._store = ArchiveStore.open(settings.archive_url)
        self._sources: dict[int, _Source] = {}
        self._failure: BaseException | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None

    async def run(self, stop: asyncio.Event) -> ArchiverStats:
        """Archive until `stop` is set.

        Raises:
            ArchiveError: the log and the archive contradict each other, or a file cannot be.
            KafkaError: Kafka refuses to be read or written.
        """
        self._consumer = consumer = AIOKafkaConsumer(
            **self._kafka.client(),
            client_id="grindstone-archiver",
            group_id=f"{self._topics.prefix}{self._settings.group}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=self._settings.session_timeout_ms,
            heartbeat_interval_ms=max(self._settings.session_timeout_ms // 5, 100),
            max_partition_fetch_bytes=self._settings.fetch_bytes,
            fetch_min_bytes=self._settings.fetch_min_bytes,
            fetch_max_wait_ms=self._settings.fetch_wait_ms,
        )
        self._producer = producer = AIOKafkaProducer(
            **self._kafka.client(),
            client_id="grindstone-archiver",
            enable_idempotence=True,
        )
        try:
            await producer.start()
            consumer.subscribe([self._topics.experiences], listener=self)
            await consumer.start()
            while not stop.is_set():
                await self._step(consumer)
            await self._save_all()
        finally:
            await consumer.stop()
            await producer.stop()
        return self.stats

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing to do: what is half done will be done again by the next owner, alike."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Go on where the state files say; aiokafka forgets positions in every rebalance."""
        try:
            mine = {tp.partition for tp in assigned}
            self._sources = {p: s for p, s in self._sources.items() if p in mine}
            for tp in assigned:
                source = self._sources.get(tp.partition)
                if source is None:
                    source = self._sources[tp.partition] = self._open(tp.partition)
                source.proven, source.asked = False, None
                self._seek(tp, source.next_offset)
            self.stats.partitions = len(mine)
            _log.info("archiver.assigned", partitions=sorted(mine))
        except Exception as error:  # aiokafka would log it and go on
            self._failure = error

    def _open(self, partition: int) -> _Source:
        progress = load_progress(self._store, self._topics.experiences, partition)
        fold = WindowFold(partition, self._rule_of, progress)
        return _Source(fold, progress.place.next_offset if progress else 0)

    def _seek(self, tp: TopicPartition, offset: int) -> None:
        if self._consumer is not None:
            self._consumer.seek(tp, offset)

    def _rule_of(self, first: Experience) -> WindowRule:
        if first.game not in self._games:
            known = ", ".join(sorted(self._games))
            msg = f"game of an experience must be one of {known}; got {first.game}: describe it"
            raise ArchiveError(msg)
        size = self._games[first.game].windows
        return WindowRule(max_rows=size.max_rows, max_span_ms=size.max_span_ms)

    async def _step(self, consumer: AIOKafkaConsumer) -> None:
        """Read what has come, seal, store, announce and advance."""
        if self._failure is not None:
            raise self._failure
        fetched = await consumer.getmany(timeout_ms=200, max_records=self._settings.max_records)
        for tp, records in fetched.items():
            source = self._sources.get(tp.partition)
            if source is None or not await self._accept(tp, source, records[0].offset):
                continue
            sealed: list[SealedWindow] = []
            n_rows, n_repeated = source.fold.n_rows, source.fold.n_repeated
            for record in records:
                if record.offset >= source.next_offset and record.value is not None:
                    sealed += source.fold.take(record.offset, decode_rows(record.value))
                    source.next_offset = record.offset + 1
                    await asyncio.sleep(0)  # decoding a pack takes milliseconds
            if sealed:
                await self._finish(source, sealed)
            self.stats.rows += source.fold.n_rows - n_rows
            self.stats.repeated += source.fold.n_repeated - n_repeated
        await self._count(consumer)

    async def _accept(self, tp: TopicPartition, source: _Source, first: int) -> bool:
        """Whether records that begin at `first` follow what was read.

        Offsets have holes where transactions end. But after a rebalance a hole may also mean that
        the records were fetched before the seek: ask once more, the same answer is a true one.
        """
        wanted = source.next_offset
        if first == wanted or (source.proven and 0 < first - wanted <= 2):
            source.proven = True
            return True
        if not source.proven and source.asked != (wanted, first):
            source.asked = (wanted, first)
            self._seek(tp, wanted)
            return False
        await self._check_kept(tp, wanted)
        source.proven = True
        return True

    async def _check_kept(self, tp: TopicPartition, wanted: int) -> None:
        """Make sure that the log still has what is wanted, and is the log that was archived."""
        if self._consumer is None:
            return
        begin: int = (await self._consumer.beginning_offsets([tp]))[tp]
        end: int = (await self._consumer.end_offsets([tp]))[tp]
        where = f"{tp.topic} partition {tp.partition}"
        if 0 < wanted < begin:
            msg = (
                f"{where} must be kept from offset {wanted}; it begins at {begin}: rows were "
                f"deleted before they were archived (lengthen the topic's retention; remove "
                f"{state_path(tp.topic, tp.partition)} to go on behind the gap)"
            )
            raise ArchiveError(msg)
        if wanted > end:
            msg = (
                f"{where} must reach offset {wanted}, where its archive ends; it ends at {end}: "
                f"the archive is of another log (give a new archive_url)"
            )
            raise ArchiveError(msg)

    async def _finish(self, source: _Source, sealed: list[SealedWindow]) -> None:
        """Store and announce windows, then let the state file say so."""
        announced: list[asyncio.Future[Any]] = []
        for window in sealed:
            game = self._games[window.game]
            stored = await asyncio.to_thread(
                store_window, self._store, window, game, self._settings.compression
            )
            if self._producer is not None:
                announced.append(
                    await self._producer.send(
                        self._topics.replay_windows,
                        encode_window(stored),
                        key=f"{stored.game}/{stored.archetype}".encode(),
                    )
                )
            self.stats.windows += 1
            self.stats.bytes += sum(file.n_bytes for file in stored.files)
            _log.debug("archiver.window", window_id=stored.window_id, n_rows=stored.n_rows)
        for future in announced:
            await future
        await self._save(source)

    async def _save(self, source: _Source) -> None:
        progress = source.fold.progress()
        await asyncio.to_thread(save_progress, self._store, self._topics.experiences, progress)

    async def _save_all(self) -> None:
        for source in self._sources.values():
            if source.fold.n_rows:
                await self._save(source)

    async def _count(self, consumer: AIOKafkaConsumer) -> None:
        stats = self.stats
        stats.open_rows = sum(source.fold.n_open for source in self._sources.values())
        stats.lag = 0
        for partition, source in self._sources.items():
            tp = TopicPartition(self._topics.experiences, partition)
            end = consumer.last_stable_offset(tp) or 0
            # The position passes the marks that end transactions, which hold no rows.
            read = await consumer.position(tp) if source.proven else source.next_offset
            stats.lag += max(end - read, 0)


async def run_archiver(
    settings: ArchiverSettings,
    kafka: KafkaSettings,
    topics: Topics,
    games: Mapping[str, Game],
    *,
    stop: asyncio.Event,
) -> ArchiverStats:
    """Run an archiver until `stop` is set and return what it did; see `Archiver.run`."""
    return await Archiver(settings, kafka, topics, games).run(stop)
