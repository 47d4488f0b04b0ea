"""The witness of a torture: reads what is committed as it comes, and says what goes back."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from agents.rewards.state import LEDGER_KEY, Ledger
from schemas.records import Experience, Origin, Retraction, Watermark, decode_rows, decode_window
from streams.engine import OFFSET_KEY
from tests.torture.roles import Place, write_whole

TELL_S = 0.3
_ledger = msgspec.msgpack.Decoder(Ledger).decode


class Seen(msgspec.Struct):
    """What the witness has seen so far."""

    rows: int = 0
    """Experiences, revisions included."""
    settled: int = 0
    revised: int = 0
    open: dict[int, int] = {}
    """By partition, as of its latest watermark."""
    watermarks: dict[int, int] = {}
    window_rows: int = 0
    """Rows of distinct announced windows."""
    windows: int = 0
    announcements: int = 0
    changelog_records: int = 0
    offsets_back: int = 0
    """Changelog: offsets that did not rise."""
    ledgers_back: int = 0
    """Changelog: counts of the fold that fell."""
    origins_back: int = 0
    """Rows of `experiences` whose origin did not rise: written twice."""
    revisions_wrong: int = 0
    """Rows whose revision does not follow on the one before, or with no retraction before."""

    @property
    def clean(self) -> bool:
        """Whether nothing went back."""
        return not (
            self.offsets_back or self.ledgers_back or self.origins_back or self.revisions_wrong
        )


def status_file(folder: str) -> Path:
    """Return where the witness tells what it has seen."""
    return Path(folder) / "seen.json"


def load_seen(folder: str) -> Seen:
    """Return what the witness has told last."""
    path = status_file(folder)
    return msgspec.json.decode(path.read_bytes(), type=Seen) if path.exists() else Seen()


class Witness:
    """Takes records in the order of their partitions and remembers the last of each."""

    def __init__(self) -> None:
        self.seen = Seen()
        self._offsets: dict[int, int] = {}
        self._ledgers: dict[int, Ledger] = {}
        self._origins: dict[int, Origin] = {}
        self._revisions: dict[int, int] = {}
        """By hash of the decision id: two of a million meet with a chance of 1 in 10 millions."""
        self._retracted: dict[int, int] = {}
        self._windows: set[str] = set()

    def changelog(self, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Take a record of the changelog."""
        self.seen.changelog_records += 1
        if key == OFFSET_KEY and value is not None:
            (offset,) = struct.unpack("<q", value)
            self.seen.offsets_back += offset <= self._offsets.get(partition, -1)
            self._offsets[partition] = offset
        elif key == LEDGER_KEY and value is not None:
            new, old = _ledger(value), self._ledgers.get(partition, Ledger())
            pairs = zip(msgspec.structs.astuple(new), msgspec.structs.astuple(old), strict=True)
            self.seen.ledgers_back += any(b < a for b, a in pairs)
            self._ledgers[partition] = new

    def rows(self, partition: int, value: bytes | None) -> None:
        """Take a record of `experiences`."""
        for row in decode_rows(value) if value is not None else ():
            last = self._origins.get(partition)
            self.seen.origins_back += last is not None and row.origin <= last
            self._origins[partition] = row.origin
            if isinstance(row, Watermark):
                self.seen.open[partition] = row.n_open
                self.seen.watermarks[partition] = row.watermark_ms
            elif isinstance(row, Retraction):
                self._retracted[hash(row.decision_id)] = row.revision
            elif isinstance(row, Experience):
                self._revision(row)

    def _revision(self, row: Experience) -> None:
        self.seen.rows += 1
        key = hash(row.decision_id)
        before = self._revisions.get(key, -1)
        taken_back = self._retracted.pop(key, -1)
        self.seen.revisions_wrong += row.revision != before + 1 or taken_back != before
        self._revisions[key] = row.revision
        if row.revision:
            self.seen.revised += 1
        else:
            self.seen.settled += 1

    def window(self, value: bytes | None) -> None:
        """Take an announcement."""
        if value is None:
            return
        window = decode_window(value)
        self.seen.announcements += 1
        if window.window_id not in self._windows:
            self._windows.add(window.window_id)
            self.seen.windows += 1
            self.seen.window_rows += window.n_rows


async def watch(place: Place, stop: asyncio.Event) -> None:
    """Follow the run's topics from their beginning until `stop` is set."""
    topics, witness = place.topics, Witness()
    names = (topics.changelog("rewards"), topics.experiences, topics.replay_windows)
    consumer = AIOKafkaConsumer(
        **place.kafka.client(),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(name, p) for name in names for p in range(place.play.partitions)]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        while not stop.is_set():
            try:
                got = await consumer.getmany(timeout_ms=int(TELL_S * 1000), max_records=5_000)
            except KafkaError:
                continue
            for tp, records in got.items():
                _take(witness, names, tp, records)
            write_whole(status_file(place.folder), msgspec.json.encode(witness.seen).decode())
    finally:
        await consumer.stop()


def _take(witness: Witness, names: tuple[str, ...], tp: Any, records: list[Any]) -> None:
    for record in records:
        if tp.topic == names[0]:
            witness.changelog(tp.partition, record.key, record.value)
        elif tp.topic == names[1]:
            witness.rows(tp.partition, record.value)
        else:
            witness.window(record.value)
