"""One partition of the log folded again, under several descriptions at once."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from agents.rewards.fold import RewardsFold
from schemas.codec import encode_event
from schemas.events import Tick
from schemas.game import Game
from schemas.kafka import KafkaSettings
from schemas.records import Experience, Row, Watermark, WindowRule, decode_rows
from schemas.topics import Topics
from streams.archiver.files import store_window
from streams.archiver.store import ArchiveStore
from streams.archiver.windows import SealedWindow, WindowFold
from streams.engine.records import Effects, Record
from streams.pool import Tell
from streams.reader import Span, read_records
from streams.replay import RowSetDigest

_FETCH_BYTES = 500_000
"""Compressed; ten times that unpacked is what is folded at once, and what memory holds."""


class LogJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needs to fold one partition again."""

    kafka: KafkaSettings
    topics: Topics
    partition: int
    begin: int
    end: int
    games: Mapping[str, Game]
    """By name of the variant."""
    from_ms: int | None
    to_ms: int | None
    folder: str
    """Windows go to `<folder>/<variant>/windows`."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant made of one partition."""

    partition: int
    n_rows: int
    digest: str
    n_open: int = 0
    """Decisions of the whole partition that no horizon or outcome had settled at its end."""
    n_dead: int = 0
    n_windows: int


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition is."""

    partition: int
    done: int
    total: int


class Writer:
    """Stores what of a partition's rows is of the asked time, as windows, and counts it."""

    def __init__(
        self, partition: int, game: Game, url: str, from_ms: int | None, to_ms: int | None
    ) -> None:
        self._partition = partition
        self._game = game
        self._store = ArchiveStore.open(url)
        self._from_ms, self._to_ms = from_ms, to_ms
        size = game.windows
        self._rule = WindowRule(max_rows=size.max_rows, max_span_ms=size.max_span_ms)
        self._cut: WindowFold[Experience] = WindowFold(partition, lambda _: self._rule)
        self._digest = RowSetDigest()
        self._taken = 0
        self._n_windows = 0
        self._account: Watermark | None = None

    def take(self, rows: Sequence[Row]) -> None:
        """Take the next rows of the partition's log, in order, and cut them into windows."""
        wanted = [row for row in rows if self._wants(row)]
        self._taken += 1
        for sealed in self._cut.take(self._taken, wanted):
            self._put(sealed)

    def put(self, rows: Sequence[Experience]) -> None:
        """Take the rows of one window, of one archetype, and keep them together."""
        wanted = [row for row in rows if self._wants(row)]
        if wanted:
            self._put(
                SealedWindow(
                    partition=self._partition,
                    game=self._game.name,
                    archetype=wanted[0].archetype,
                    rule=self._rule,
                    first=wanted[0].origin,
                    last=wanted[-1].origin,
                    rows=wanted,
                )
            )

    def finish(self) -> Part:
        """Store what is open and say what there is."""
        for sealed in self._cut.finish():
            self._put(sealed)
        return Part(
            partition=self._partition,
            n_rows=self._digest.n_rows,
            digest=self._digest.hexdigest(),
            n_open=self._account.n_open if self._account else 0,
            n_dead=self._account.n_dead if self._account else 0,
            n_windows=self._n_windows,
        )

    def _put(self, sealed: SealedWindow[list[Experience]]) -> None:
        store_window(self._store, sealed, self._game, "zstd")
        self._n_windows += 1
        for row in sealed.rows:
            self._digest.add(row)

    def _wants(self, row: Row) -> bool:
        if isinstance(row, Watermark):
            self._account = row
            return True
        if not isinstance(row, Experience) or row.game != self._game.name:
            return False
        at = row.decision_time_ms
        after = self._from_ms is None or at >= self._from_ms
        return after and (self._to_ms is None or at < self._to_ms)


class VariantFold:
    """A description's fold of a partition with its table, into windows."""

    def __init__(self, job: LogJob, name: str, game: Game) -> None:
        self._table: dict[bytes, bytes] = {}
        self._topics = job.topics
        self._fold = RewardsFold(job.partition, self._table, {game.name: game}, job.topics)
        url = f"{job.folder}/{name}/windows"
        self._writer = Writer(job.partition, game, url, job.from_ms, job.to_ms)

    def take(self, records: Sequence[Record]) -> None:
        """Fold the next records."""
        self._writer.take(self._rows(self._fold.fold(records)))

    def finish(self, partition: int, end: int) -> Part:
        """Ask the fold for its account, which a tick of time 0 does without moving anything."""
        tick = encode_event(Tick(event_time_ms=0, source="backtest"))
        self.take([Record(partition, end, 0, None, tick)])
        return self._writer.finish()

    def _rows(self, effects: Effects) -> list[Row]:
        for key, value in effects.states.items():
            if value is None:
                self._table.pop(key, None)
            else:
                self._table[key] = value
        topic = self._topics.experiences
        values = [cast("bytes", o.value) for o in effects.outputs if o.topic == topic]
        return [row for value in values for row in decode_rows(value)]


def refold(job: LogJob, tell: Tell) -> dict[str, Part]:
    """What each variant made of the partition; for a process of its own."""
    return asyncio.run(_refold(job, tell))


async def _refold(job: LogJob, tell: Tell) -> dict[str, Part]:
    folds = {name: VariantFold(job, name, game) for name, game in job.games.items()}
    span = Span(
        partitions=[job.partition],
        from_offsets={job.partition: job.begin},
        to_offsets={job.partition: job.end},
    )
    source = read_records(job.kafka, job.topics.game_events, span, _FETCH_BYTES)
    async for batch in source:
        records = [Record(r.partition, r.offset, r.timestamp, r.key, r.value) for r in batch]
        for fold in folds.values():
            fold.take(records)
        done = records[-1].offset + 1 - job.begin
        tell(Told(partition=job.partition, done=done, total=job.end - job.begin))
    return {name: fold.finish(job.partition, job.end) for name, fold in folds.items()}
