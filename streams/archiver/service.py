"""The archiver process: `experiences` in, Parquet windows and their announcements out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaProducer

from schemas.game import Game
from schemas.heads import read_heads
from schemas.kafka import KafkaSettings
from schemas.records import RowHead, WindowRule, encode_window
from schemas.topics import Topics
from streams.archiver.files import Compression, store_window
from streams.archiver.heads import HeadsFold, Sealed
from streams.archiver.state import load_progress, save_progress, state_path
from streams.archiver.store import ArchiveError, ArchiveStore
from streams.group import GroupReader, GroupSettings, Part

_log = structlog.get_logger(__name__)
READ_BYTES = 4 << 20
"""Rows of so many bytes are cut into windows at once, in some milliseconds."""


class ArchiverSettings(GroupSettings, frozen=True, kw_only=True):
    """Where the archive lies and how it is read and written."""

    archive_url: str
    """A folder, ``file:///folder``, ``s3://bucket/prefix`` or what else `pyarrow.fs` opens."""
    group: str = "archiver"
    compression: Compression = "lz4"


class ArchiverStats(msgspec.Struct):
    """What an archiver has done since it started."""

    rows: int = 0
    windows: int = 0
    bytes: int = 0
    """Size of the files written."""
    repeated: int = 0
    """Rows dropped because their origin did not rise."""
    open_rows: int = 0
    lag: int | None = None
    """Offsets between what is read and what is committed, all partitions; None until counted."""
    partitions: int = 0


class Archiver:
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
        self._producer: AIOKafkaProducer | None = None

    async def run(self, stop: asyncio.Event) -> ArchiverStats:
        """Archive until `stop` is set.

        Raises:
            ArchiveError: the log and the archive contradict each other, or a file cannot be.
            KafkaError: Kafka refuses to be read or written.
        """
        reader = GroupReader[HeadsFold](self._kafka, self._topics, self._settings, self)
        self._producer = producer = AIOKafkaProducer(
            **self._kafka.client(),
            client_id="grindstone-archiver",
            enable_idempotence=True,
        )
        try:
            await producer.start()
            await reader.start()
            while not stop.is_set():
                await self._step(reader)
            await self._save_all(reader)
        finally:
            await reader.stop()
            await producer.stop()
        return self.stats

    async def open_partition(self, partition: int) -> tuple[HeadsFold, int]:
        """Return the fold of a partition and the offset that its state file says."""
        progress = load_progress(self._store, self._topics.experiences, partition)
        fold = HeadsFold(partition, self._rule_of, progress)
        return fold, progress.place.next_offset if progress else 0

    def lost(self, where: str, partition: int, wanted: int, begin: int) -> Exception:
        """Return the error for a log that was cut off in front of its archive's end."""
        msg = (
            f"{where} must be kept from offset {wanted}; it begins at {begin}: rows were "
            f"deleted before they were archived (lengthen the topic's retention; remove "
            f"{state_path(self._topics.experiences, partition)} to go on behind the gap)"
        )
        return ArchiveError(msg)

    def ahead(self, where: str, wanted: int, end: int) -> Exception:
        """Return the error for an archive of another log."""
        msg = (
            f"{where} must reach offset {wanted}, where its archive ends; it ends at {end}: "
            f"the archive is of another log (give a new archive_url)"
        )
        return ArchiveError(msg)

    def _rule_of(self, first: RowHead) -> WindowRule:
        if first.game not in self._games:
            known = ", ".join(sorted(self._games))
            msg = f"game of an experience must be one of {known}; got {first.game}: describe it"
            raise ArchiveError(msg)
        size = self._games[first.game].windows
        return WindowRule(max_rows=size.max_rows, max_span_ms=size.max_span_ms)

    async def _step(self, reader: GroupReader[HeadsFold]) -> None:
        """Read what has come, seal, store, announce and advance."""
        for part, records in await reader.take():
            fold = part.state
            if fold is None:
                continue
            sealed: list[Sealed] = []
            n_rows, n_repeated = fold.n_rows, fold.n_repeated
            for some in _some_megabytes(records):
                offsets = [record.offset for record in some]
                sealed += fold.take(offsets, read_heads([record.value for record in some]))
                part.next_offset = offsets[-1] + 1
                await asyncio.sleep(0)  # which takes milliseconds
            if sealed:
                await self._finish(fold, sealed)
            self.stats.rows += fold.n_rows - n_rows
            self.stats.repeated += fold.n_repeated - n_repeated
        await self._count(reader)

    async def _finish(self, fold: HeadsFold, sealed: list[Sealed]) -> None:
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
        await self._save(fold)

    async def _save(self, fold: HeadsFold) -> None:
        progress = fold.progress()
        await asyncio.to_thread(save_progress, self._store, self._topics.experiences, progress)

    async def _save_all(self, reader: GroupReader[HeadsFold]) -> None:
        for fold in _folds(reader):
            if fold.n_rows:
                await self._save(fold)

    async def _count(self, reader: GroupReader[HeadsFold]) -> None:
        self.stats.open_rows = sum(fold.n_open for fold in _folds(reader))
        self.stats.partitions = len(reader.parts)
        self.stats.lag = await reader.lag()


def _folds(reader: GroupReader[HeadsFold]) -> list[HeadsFold]:
    parts: list[Part[HeadsFold]] = list(reader.parts.values())
    return [part.state for part in parts if part.state is not None]


def _some_megabytes(records: list[Any]) -> Iterator[list[Any]]:
    """Yield records in lists of `READ_BYTES` or a record more."""
    some: list[Any] = []
    size = 0
    for record in records:
        some.append(record)
        size += len(record.value)
        if size >= READ_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


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
