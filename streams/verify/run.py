"""The whole proof: the partitions side by side, each in a process."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

import msgspec

from schemas.kafka import KafkaSettings
from schemas.records import Window, decode_dead_letter, decode_window
from schemas.topics import Topics
from streams.archiver.state import load_progress
from streams.archiver.store import ArchiveStore
from streams.engine.records import FoldFactory
from streams.reader import read_topic, topic_spans
from streams.verify.partition import PartitionJob, add_letter, verify_partition
from streams.verify.report import Culprit, PartitionReport, VerifyProgress, VerifyReport

_LOOK_S = 0.2


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
    n = min(settings.processes or os.cpu_count() or 1, len(jobs))
    if n <= 1:
        reports = [verify_partition(job, refold, on_progress) for job in jobs]
    else:
        reports = _in_processes(jobs, refold, n, on_progress)
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


_told: Any = None
"""In a process of the pool: where it puts its progress."""


def _set_told(told: Any) -> None:
    global _told
    _told = told


def _work(job: PartitionJob, refold: FoldFactory) -> PartitionReport:
    return verify_partition(job, refold, _told.put)


def _in_processes(
    jobs: list[PartitionJob],
    refold: FoldFactory,
    n_processes: int,
    on_progress: Callable[[VerifyProgress], None] | None,
) -> list[PartitionReport]:
    # Forking this process could hang, for it may have threads; a server without any is forked
    # instead, which has imported the fold's module once for all.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, type(refold).__module__])
    told = context.Queue()
    pool = ProcessPoolExecutor(n_processes, context, initializer=_set_told, initargs=(told,))
    pending: set[Future[PartitionReport]] = set()
    reports: list[PartitionReport] = []
    try:
        # The longest first, so that no core waits for it at the end.
        for job in sorted(jobs, key=lambda job: -job.end_offset):
            pending.add(pool.submit(_work, job, refold))
        while pending:
            done, pending = wait(pending, _LOOK_S, FIRST_COMPLETED)
            reports += [future.result() for future in done]
            _tell(told, on_progress)
    finally:
        pool.shutdown(cancel_futures=True)
        told.close()
    return reports


def _tell(told: Any, on_progress: Callable[[VerifyProgress], None] | None) -> None:
    while True:
        try:
            progress = told.get_nowait()
        except queue.Empty:
            return
        if on_progress is not None:
            on_progress(progress)
