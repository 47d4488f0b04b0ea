"""One partition's proof: fold its log again and compare everything with what follows from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from schemas.codec import encode_event
from schemas.events import Tick
from schemas.kafka import KafkaSettings
from schemas.records import Experience, Row, Watermark, Window, decode_dead_letter, decode_rows
from schemas.topics import Topics
from streams.archiver.store import ArchiveStore
from streams.archiver.windows import Progress
from streams.engine.records import Effects, FoldFactory, Record
from streams.reader import Span, read_records
from streams.verify.decisions import IdSet, decision_ids, id_in_letter
from streams.verify.report import PartitionReport, VerifyProgress
from streams.verify.rows import RowMatch
from streams.verify.windows import WindowCheck

_FETCH_BYTES = 500_000
"""Compressed; ten times that unpacked is what is folded at once, and what memory holds."""


class PartitionJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needs to prove one partition."""

    kafka: KafkaSettings
    topics: Topics
    partition: int
    log_begin: int
    end_offset: int
    """Of `game-events`: the proof is of what is before it."""
    experiences_end: int
    archive_url: str | None
    progress: Progress | None
    """How far the archiver said it was before the announcements were read."""
    announced: list[Window]
    letters: str
    """Digest of the partition's records on `dead-letters`, see `letters_digest`."""
    n_letters: int
    allow_behind: bool


class PartitionProof:
    """The proof without Kafka: records in, report out."""

    def __init__(
        self,
        topics: Topics,
        partition: int,
        refold: FoldFactory,
        announced: Sequence[Window] = (),
        progress: Progress | None = None,
    ) -> None:
        """Begin at the start of the log with empty states."""
        self.report = PartitionReport(partition=partition)
        self.letters = hashlib.blake2b(digest_size=16)
        self._topics = topics
        self._table: dict[bytes, bytes] = {}
        self._fold = refold(partition, self._table)
        self._decisions, self._settled, self._refused = IdSet(), IdSet(), IdSet()
        self._account: Watermark | None = None
        self._end_offset = 0
        self._windows = WindowCheck(self.report, announced, progress)
        self.match = RowMatch(topics.experiences, self.report, self._on_row)

    def fold(self, records: Sequence[Record]) -> None:
        """Take the next records of `game-events`."""
        for record in records:
            ids, n_events = decision_ids(record.value)
            self.report.events += n_events
            for decision_id in ids:
                self._decisions.add(decision_id)
        self._end_offset = records[-1].offset + 1
        for topic, value in _outputs(self._apply(records)):
            if topic == self._topics.experiences:
                self.match.want(value)
            elif topic == self._topics.dead_letters:
                self.report.dead_letters += 1
                add_letter(self.letters, value)
                for decision_id in id_in_letter(decode_dead_letter(value).raw):
                    self._refused.add(decision_id)
        self.match.match()

    def finish(self, *, allow_behind: bool = False, store: ArchiveStore | None = None) -> None:
        """Judge when all records of both topics are taken."""
        self._ask_account()
        self.match.finish(self._end_offset, allow_behind=allow_behind)
        self._balance()
        self._windows.finish(store, allow_behind=allow_behind)

    def _apply(self, records: Sequence[Record]) -> Effects:
        effects = self._fold.fold(records)
        for key, value in effects.states.items():
            if value is None:
                self._table.pop(key, None)
            else:
                self._table[key] = value
        return effects

    def _on_row(self, offset: int, row: Row) -> None:
        if isinstance(row, Experience) and row.revision == 0:
            self._settled.add(row.decision_id)
        self._windows.take(offset, row)

    def _ask_account(self) -> None:
        """Get the fold's own count: a tick of time 0 moves nothing and is answered with it."""
        tick = encode_event(Tick(event_time_ms=0, source="verify"))
        place = Record(self.report.partition, self._end_offset, 0, None, tick)
        for topic, value in _outputs(self._apply([place])):
            for row in decode_rows(value) if topic == self._topics.experiences else ():
                if isinstance(row, Watermark):
                    self._account = row

    def _balance(self) -> None:
        """Prove that each decision on the log is settled once, open, or refused."""
        report, account = self.report, self._account
        seen, settled = self._decisions.distinct(), self._settled.distinct()
        report.decisions, report.settled = len(seen), len(settled)
        where = f"{self._topics.game_events} partition {report.partition}"
        if self._settled.n_added > len(settled):
            n = self._settled.n_added - len(settled)
            report.doubled += n
            report.blame("doubled", where, f"{n} decisions must be settled once; they are twice")
        if account is None:
            report.blame("ledger", where, "a tick must be answered with a watermark; it was not")
            return
        report.open = account.n_open
        refused = np.setdiff1d(self._refused.distinct(), settled)
        n_gone = len(settled) + self.match.n_behind + report.open
        report.dead_decisions = len(seen) - n_gone
        strange = len(np.setdiff1d(settled, seen))
        if strange:
            report.blame("ledger", where, f"settled decisions must be on it; {strange} are not")
        if report.lost == 0 and not 0 <= report.dead_decisions <= len(refused):
            what = (
                f"decisions must be settled + open + dead-lettered; got {len(seen)} = "
                f"{len(settled)} + {report.open} + {len(refused)}"
            )
            report.blame("ledger", where, what)


def verify_partition(
    job: PartitionJob,
    refold: FoldFactory,
    on_progress: Callable[[VerifyProgress], None] | None = None,
) -> PartitionReport:
    """Prove one partition and return what was found; for a process of its own."""
    import asyncio  # here: each process has a loop of its own

    return asyncio.run(_verify_partition(job, refold, on_progress))


async def _verify_partition(
    job: PartitionJob,
    refold: FoldFactory,
    on_progress: Callable[[VerifyProgress], None] | None,
) -> PartitionReport:
    store = None if job.archive_url is None else ArchiveStore.open(job.archive_url)
    name, p = job.topics.experiences, job.partition
    proof = PartitionProof(job.topics, p, refold, job.announced, job.progress)
    where = f"{job.topics.game_events} partition {p}"
    if job.log_begin > 0:
        what = f"must begin at offset 0 to be folded again; it begins at {job.log_begin}"
        proof.report.blame("log", where, what)
        return proof.report
    span = Span(partitions=[p], to_offsets={p: job.end_offset})
    source = read_records(job.kafka, job.topics.game_events, span, _FETCH_BYTES)
    written = Span(partitions=[p], to_offsets={p: job.experiences_end})
    there = read_records(job.kafka, name, written, _FETCH_BYTES)
    async for batch in source:
        proof.fold([Record(p, r.offset, r.timestamp, r.key, r.value) for r in batch])
        while proof.match.n_wanted and await _find(proof, there):
            continue
        if on_progress is not None:
            on_progress(
                VerifyProgress(
                    partition=p,
                    done=batch[-1].offset + 1,
                    total=job.end_offset,
                    experiences=proof.report.experiences,
                )
            )
    while await _find(proof, there):
        continue
    proof.finish(allow_behind=job.allow_behind, store=store)
    if not job.allow_behind and proof.letters.hexdigest() != job.letters:
        what = (
            f"{proof.report.dead_letters} dead letters must be on {job.topics.dead_letters}, as "
            f"they follow from the log; got {job.n_letters}"
        )
        proof.report.blame("dead-letters", where, what)
    return proof.report


async def _find(proof: PartitionProof, there: Any) -> bool:
    """Take the next records of `experiences`; False when there are no more."""
    batch = await anext(there, None)
    if batch is None:
        return False
    for record in batch:
        if record.value is not None:
            proof.match.find(record.offset, record.value)
    return True


def add_letter(digest: Any, value: bytes) -> None:
    """Add a record of `dead-letters` to a partition's digest."""
    digest.update(len(value).to_bytes(4, "little"))
    digest.update(value)


def _outputs(effects: Effects) -> list[tuple[str, bytes]]:
    return [(o.topic, o.value) for o in effects.outputs if o.value is not None]
