"""The whole proof: the partitions side by side, each in a process."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

import msgspec

from schemas.kafka import KafkaSettings
from schemas.records import Window, decode_dead_letter, decode_window
from schemas.topics import Topics
from streams.archiver.state import load_progress
from streams.archiver.store import ArchiveStore
from streams.engine.records import FoldFactory
from streams.pool import Tell, run_each
from streams.reader import read_topic, topic_spans
from streams.verify.partition import PartitionJob, add_letter, verify_partition
from streams.verify.report import Culprit, PartitionReport, VerifyProgress, VerifyReport


class VerifySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is verified and how."""

    archive_url: str | None = None
    """None leaves files and the archiver's state out; windows are checked all the same."""
    processes: int | None = None
    """None: one a core, at most one a partition."""
    allow_behind: bool = False
    """Whether rows may be missing at the end, as they are while the system runs."""


def verify(
    kafka: KafkaSettings,
    topics: Topics,
    refold: FoldFactory,
    settings: VerifySettings | None = None,
    on_progress: Callable[[VerifyProgress], None] | None = None,
) -> VerifyReport:
    """Prove that experiences, windows and files follow from the log, and return what was found.

    Args:
        kafka: the brokers.
        topics: the topic names.
        refold: makes the fold whose outputs are proven, of (partition, empty table); it travels
            to other processes, so it must pickle.
        settings: what is left out; nothing when not given.
        on_progress: is told now and then how far each partition is.

    Raises:
        ReadError: a topic does not exist, no broker answers, or a record does not decode.
        ArchiveError: the archive cannot be opened, or its state is damaged.
    """
    settings = settings or VerifySettings()
    began = time.monotonic()
    jobs, announcements, others = asyncio.run(_prepare(kafka, topics, settings))
    # The longest first, so that no core waits for it at the end.
    work = [(job, refold) for job in sorted(jobs, key=lambda job: -job.end_offset)]
    reports = run_each(work, _verify, settings.processes, on_progress, [type(refold).__module__])
    return VerifyReport(
        partitions=sorted(reports, key=lambda report: report.partition),
        announcements=announcements,
        seconds=time.monotonic() - began,
        others=others,
    )


async def _prepare(
    kafka: KafkaSettings, topics: Topics, settings: VerifySettings
) -> tuple[list[PartitionJob], int, list[Culprit]]:
    """Fix where each topic ends, the source first, and read the small topics."""
    source = await topic_spans(kafka, topics.game_events)
    rows = await topic_spans(kafka, topics.experiences)
    store = None if settings.archive_url is None else ArchiveStore.open(settings.archive_url)
    # Before the announcements: a running archiver announces first, then says how far it is.
    progress = {
        p: None if store is None else load_progress(store, topics.experiences, p) for p in source
    }
    windows: dict[int, list[Window]] = {p: [] for p in source}
    others: list[Culprit] = []
    announcements = 0
    async for at in read_topic(kafka, topics.replay_windows, lambda v: (decode_window(v),)):
        announcements += 1
        if at.row.partition in windows:
            windows[at.row.partition].append(at.row)
        else:
            what = f"must be of a partition of {topics.game_events}; got {at.row.partition}"
            others.append(Culprit(kind="window", where=at.row.window_id, what=what))
    letters = {p: hashlib.blake2b(digest_size=16) for p in source}
    n_letters = dict.fromkeys(source, 0)
    async for letter in read_topic(kafka, topics.dead_letters, lambda v: (v,)):
        origin = decode_dead_letter(letter.row)
        span = source.get(origin.partition)
        if origin.topic == topics.game_events and span and origin.offset < span.end:
            add_letter(letters[origin.partition], letter.row)
            n_letters[origin.partition] += 1
    jobs = [
        PartitionJob(
            kafka=kafka,
            topics=topics,
            partition=p,
            log_begin=span.log_begin,
            end_offset=span.end,
            experiences_end=rows[p].end if p in rows else 0,
            archive_url=settings.archive_url,
            progress=progress[p],
            announced=windows[p],
            letters=letters[p].hexdigest(),
            n_letters=n_letters[p],
            allow_behind=settings.allow_behind,
        )
        for p, span in sorted(source.items())
    ]
    return jobs, announcements, others


def _verify(job: tuple[PartitionJob, FoldFactory], tell: Tell) -> PartitionReport:
    return verify_partition(*job, tell)
