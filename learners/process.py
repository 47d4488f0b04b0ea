"""The learner process: a consumer group on `replay-windows` shares the models among its members.

A member trains the models whose windows lie in its partitions, in the order of the log. Where to
go on is in the model's checkpoint; the group's offsets are written only so that lag can be seen.
Each model has one transactional producer, so that a member that lost its share and does not know
is fenced when it tries to announce a version.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import structlog
import torch
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, ProducerFenced

from learners.algorithms import choose_device
from learners.history import History, digest_of, history_of
from learners.replay.rows import WindowError
from learners.session import Workplace
from learners.sessions import GameSessions, Session, Sessions, partition_of
from schemas.game import Game
from schemas.kafka import KafkaSettings
from schemas.model_events import Registered, encode_model_event
from schemas.records import Metric, Window, decode_window, encode_metric
from schemas.starting import start
from schemas.topics import Topics

log = structlog.get_logger(__name__)
T = TypeVar("T")

CHUNK_S = 0.25
"""Longest stretch of training before the process looks at its group and at the stop signal."""

METRICS_EVERY_S = 1.0
FETCH_RECORDS = 4


class LearnerFencedError(RuntimeError):
    """Another learner has taken this model over; this process must end."""


class LearnerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a learner process is told."""

    kafka: KafkaSettings
    topics: Topics
    games: list[Game] = []
    place: Workplace | None = None
    """Where the learners of the games read and write."""
    trains: Any = None
    """`learners.sessions.Sessions` in place of those of the games."""
    process: str = "learner"
    """Name in metrics and logs."""
    group: str = "learners"
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    """Torch threads; games and broker need the other cores."""
    session_timeout_ms: int = 10_000

    def sessions(self) -> Sessions:
        """Return what is trained: by default what the games describe."""
        if self.trains is not None:
            trains: Sessions = self.trains
            return trains
        if self.place is None:
            msg = "place must be given with games; got none"
            raise ValueError(msg)
        return GameSessions(games=self.games, place=self.place, seed=self.seed)


class LearnerProcess:
    """Consumes windows and trains until told to stop."""

    def __init__(self, config: LearnerConfig) -> None:
        """Prepare; nothing is connected before `run`."""
        self._config = config
        self._trains = config.sessions()
        self._keys = set(self._trains.keys())
        self._sessions: dict[str, Session] = {}
        self._writers: dict[str, AIOKafkaProducer] = {}
        self._announced: dict[str, dict[str, str]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="train")
        self._training = asyncio.Lock()
        self._starts: dict[TopicPartition, int] = {}
        """Partitions of ours and the offset from which each is read."""
        self._begun: dict[str, TopicPartition] = {}
        """Keys of ours that an earlier process worked on, until we have gone on with them."""
        self._done: dict[TopicPartition, int] = {}
        """Offset behind the last record that was dealt with."""
        self._generation = 0
        self._quarantined = 0
        self._failure: Exception | None = None
        self._consumer: Any = None
        self._metrics: Any = None

    async def run(self, stop: asyncio.Event) -> None:
        """Train until ``stop`` is set; the last state is in a checkpoint when this returns.

        Raises:
            LearnerFencedError: another learner announces versions of a model of ours.
        """
        torch.set_num_threads(self._config.threads)
        client = self._config.kafka.client()
        self._metrics = AIOKafkaProducer(**client, linger_ms=50)
        self._consumer = AIOKafkaConsumer(
            **client,
            group_id=self._config.topics.prefix + self._config.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=self._config.session_timeout_ms,
            heartbeat_interval_ms=self._config.session_timeout_ms // 4,
            max_poll_interval_ms=300_000,
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._pool.shutdown)
            stack.push_async_callback(self._close_sessions)
            await self._metrics.start()
            stack.push_async_callback(self._metrics.stop)
            stack.push_async_callback(self._consumer.stop)
            await start(self._consumer)
            self._consumer.subscribe([self._config.topics.replay_windows], listener=_Share(self))
            reporter = asyncio.create_task(self._report())
            stack.push_async_callback(_cancel, reporter)
            await self._consume(stop)

    async def _consume(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            batches = await self._consumer.getmany(timeout_ms=200, max_records=FETCH_RECORDS)
            if self._failure is not None:
                raise self._failure
            generation = self._generation  # these records are of the present assignment
            await self._go_on(stop)
            for partition, records in batches.items():
                for record in records:
                    if stop.is_set() or generation != self._generation:
                        break  # what is ours now is read again from its own offset
                    await self._take(partition, record, stop)

    async def _go_on(self, stop: asyncio.Event) -> None:
        """Work off what models owed when they were last written down; no window may come soon."""
        while self._begun and not stop.is_set():
            key, partition = self._begun.popitem()
            if key in self._sessions or not await self._open(key, partition):
                await self._work(key, self._sessions[key], stop)

    async def _take(self, partition: TopicPartition, record: Any, stop: asyncio.Event) -> None:
        try:
            window = decode_window(record.value)
        except msgspec.MsgspecError as error:
            await self._quarantine(f"offset {record.offset}", str(error))
            self._done[partition] = record.offset + 1
            return
        key = f"{window.game}/{window.archetype}"
        if key not in self._keys:
            self._done[partition] = record.offset + 1
            return
        generation = self._generation
        if key not in self._sessions and await self._open(key, partition):
            return
        session = self._sessions[key]
        await self._work(key, session, stop)  # what was decided on earlier windows comes first
        async with self._training:
            if stop.is_set() or generation != self._generation:
                return
            await self._fold(session, window, record)
        await self._work(key, session, stop)
        await self._commit(partition, record.offset + 1)

    async def _fold(self, session: Session, window: Window, record: Any) -> None:
        try:
            await self._in_thread(lambda: session.take(window, record.partition, record.offset))
        except WindowError as error:
            await self._quarantine(window.window_id, str(error))

    async def _work(self, key: str, session: Session, stop: asyncio.Event) -> None:
        """Work off what is owed, a chunk at a time, as long as the model is ours."""
        while session.busy and not stop.is_set():
            async with self._training:
                if self._sessions.get(key) is not session:
                    return
                if session.asks:
                    champions = (await self._history(session.asks)).champions
                    await self._in_thread(lambda c=champions: session.answer(c))  # type: ignore[misc]
                version = await self._in_thread(lambda: session.work(CHUNK_S))
                if version is not None:
                    await self._announce(key, version)
                    await self._in_thread(session.announced)
            await self._tell_refused(session)
            await asyncio.sleep(0)

    async def _history(self, models: list[str]) -> History:
        return await history_of(self._config.kafka, self._config.topics.models, models)

    async def _tell_refused(self, session: Session) -> None:
        """Say in the log and in `metrics` what was passed over."""
        refused, session.refused = session.refused, []
        for reason in refused:
            log.warning("passed over", **session.labels, reason=reason)
            await self._send_metric({"refused": 1.0}, {**session.labels, "reason": reason[:500]})

    async def _announce(self, key: str, version: Registered) -> None:
        name = f"{version.model}@{version.version}"
        if self._announced[key].get(name) == digest_of(version):
            return  # a process that was killed before its checkpoint had announced it
        writer = self._writers[key]
        try:
            async with writer.transaction():
                await writer.send_and_wait(
                    self._config.topics.models,
                    key=version.model.encode(),
                    value=encode_model_event(version),
                )
        except ProducerFenced as error:
            text = f"{version.model} must be this learner's; got fenced by another one"
            raise LearnerFencedError(text) from error
        log.info("version registered", model=version.model, version=version.version)

    async def _open(self, key: str, partition: TopicPartition) -> bool:
        """Open a model from its newest sound checkpoint; returns whether it has to read again."""
        writer = AIOKafkaProducer(
            **self._config.kafka.client(),
            transactional_id=self._config.topics.prefix + self._trains.writer(key),
        )
        device = choose_device(self._config.device)
        try:
            await start(writer)  # from here on an earlier owner is fenced
            async with self._training:
                models = self._trains.models(key)
                self._announced[key] = (await self._history(models)).registered
                session = await self._in_thread(lambda: self._trains.open(key, device))
        except BaseException:
            await writer.stop()
            raise
        self._sessions[key], self._writers[key] = session, writer
        await self._tell_refused(session)
        log.info("model opened", **session.labels, updates=session.snapshot["updates"])
        needed = session.cursor.next_offset if session.cursor.partition >= 0 else 0
        if needed >= self._starts.get(partition, 0):
            return False
        # The newest checkpoint was damaged: an older one was read. What was fetched is let go, of
        # every partition, so that each is read again from where it stands.
        self._starts[partition] = self._done[partition] = needed
        for ours, done in self._done.items():
            self._consumer.seek(ours, done)
        self._generation += 1
        return True

    async def _commit(self, partition: TopicPartition, offset: int) -> None:
        if partition not in self._starts:
            return
        self._done[partition] = offset
        try:
            await self._consumer.commit({partition: offset})
        except (CommitFailedError, IllegalStateError) as error:
            log.info("offset not committed", partition=partition.partition, reason=str(error))

    async def _quarantine(self, window: str, reason: str) -> None:
        self._quarantined += 1
        log.warning("window quarantined", window=window, reason=reason)
        labels = {"window": window[:200], "reason": reason[:500]}
        await self._send_metric({"quarantined": 1.0}, labels)

    async def _send_metric(self, values: dict[str, float], labels: dict[str, str]) -> None:
        metric = Metric(
            process=self._config.process,
            time_ms=time.time_ns() // 1_000_000,
            values=values,
            labels=labels,
        )
        await self._metrics.send(
            self._config.topics.metrics,
            key=self._config.process.encode(),
            value=encode_metric(metric),
        )

    async def _report(self) -> None:
        """Send what every open model measures, once a second."""
        before: dict[str, tuple[float, float]] = {}
        while True:
            await asyncio.sleep(METRICS_EVERY_S)
            for key, session in list(self._sessions.items()):
                values, now = dict(session.snapshot), time.monotonic()
                then, updates = before.get(key, (now, values["updates"]))
                if now > then:
                    values["updates_per_s"] = (values["updates"] - updates) / (now - then)
                before[key] = (now, values["updates"])
                values["lag_windows"] = float(self._lag())
                values["quarantined"] = float(self._quarantined)
                try:
                    await self._send_metric(values, session.labels)
                except KafkaError as error:  # numbers may be missed, training goes on
                    log.info("metric not sent", reason=str(error))

    def _lag(self) -> int:
        """Return how many announced windows of our partitions are not dealt with yet."""
        ends = {partition: self._consumer.highwater(partition) for partition in self._done}
        return sum(max(0, (ends[p] or 0) - done) for p, done in self._done.items())

    def open_models(self) -> list[str]:
        """Return the keys of the models that are open here."""
        return list(self._sessions)

    def owned_partitions(self) -> list[int]:
        """Return the partitions of `replay-windows` that are ours."""
        return [partition.partition for partition in self._starts]

    @contextlib.contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Keep what goes wrong in a rebalance: aiokafka would log it and read on."""
        try:
            yield
        except Exception as error:
            self._failure = error
            raise

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Read each new partition from where its models' checkpoints stand.

        Every seek comes before the first await: until then nothing can have been fetched, while
        later the consumer may have begun at the group's offset and handed out windows from there.
        """
        self._generation += 1
        n = len(self._consumer.partitions_for_topic(self._config.topics.replay_windows) or ())
        self._starts, self._done, self._begun = {}, {}, {}
        for partition in partitions:
            starts = {
                key: self._start(key, partition.partition)
                for key in self._trains.keys()
                if partition_of(key, n) == partition.partition
            }
            self._begun |= {key: partition for key, at in starts.items() if at}
            start = min(starts.values(), default=0)
            self._starts[partition] = self._done[partition] = start
            self._consumer.seek(partition, start)
        await self._close_sessions(but=set(self._starts))

    def _start(self, key: str, partition: int) -> int:
        session = self._sessions.get(key)
        if session is not None:
            return session.cursor.next_offset if session.cursor.partition == partition else 0
        return self._trains.resume_offset(key, partition)

    async def revoked(self) -> None:
        """Write checkpoints, so that the next owner goes on from here."""
        self._generation += 1
        async with self._training:
            for session in self._sessions.values():
                await self._in_thread(session.save)

    async def _close_sessions(self, but: set[TopicPartition] | None = None) -> None:
        """Close the models that are not in the partitions kept; a final checkpoint first."""
        kept = {partition.partition for partition in but or ()}
        async with self._training:
            for key, session in list(self._sessions.items()):
                if session.cursor.partition in kept:
                    continue
                del self._sessions[key]
                if but is None:
                    await self._in_thread(session.save)
                await self._writers.pop(key).stop()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class _Share(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells the process which partitions are its own."""

    def __init__(self, process: LearnerProcess) -> None:
        self._process = process

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        del revoked
        with self._process.noting_failure():
            await self._process.revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        with self._process.noting_failure():
            await self._process.assigned(assigned)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def run_learner(config: LearnerConfig, stop: asyncio.Event) -> None:
    """Run a learner process until ``stop`` is set; see `LearnerProcess.run`."""
    await LearnerProcess(config).run(stop)
