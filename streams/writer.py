"""The event writer: five lines put a game's events into Kafka, packed, in order and once.

::

    async with EventWriter(kafka, topics) as writer:
        await writer.send(decision)
        await writer.send(outcome)

A game without asyncio uses `EventWriter.open`, which has the same methods without ``await``.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from schemas.events import ActorEvent
from schemas.kafka import KafkaSettings
from schemas.privacy import refuse_raw_player
from schemas.starting import start
from schemas.topics import Topics
from streams.compression import use_fast_lz4
from streams.lane import HEADER_BYTES, Lane, WriterSettings, largest_field
from streams.partitioner import Partitioner

if TYPE_CHECKING:
    from streams.blocking import BlockingEventWriter

__all__ = ["EventWriter", "WriteError", "WriterSettings", "WriterStats"]

_BATCH_BYTES = 900_000
"""One produce batch: under the broker's default limit of 1,048,588 with room for its headers."""


Protect = Callable[[ActorEvent], ActorEvent]
"""What makes an event fit for the log; `streams.privacy.Ingress` where a game has players."""

_ABANDON_S = 2.0
"""How long requests in flight may take to notice that they are cancelled."""


class WriteError(RuntimeError):
    """Events could not be written; the writer is of no more use and its process should end."""


class WriterStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a writer has done so far."""

    events: int
    """Accepted; `buffered_events` of them are not acknowledged yet."""
    packs: int
    """Kafka records that were acknowledged: packs, or single events."""
    bytes: int
    """Encoded size of the accepted events, before compression."""
    buffered_events: int
    buffered_bytes: int
    refused: int
    """Events that `send_nowait` did not take because the buffer was full."""
    waited_s: float
    """How long `send` has waited for room, in all."""
    last_error: str | None


class EventWriter:
    """Writes events to ``game-events`` from asyncio, keeping the order of each actor's events.

    `protect` is for games with human players; without it no event may name one.

    Packs go to the partition of the actor id (`partitioner`), through an idempotent producer that
    waits for all replicas. A broker that is away is waited for: the buffer fills, `send` waits.

    Raises:
        WriteError: from `send`, `flush` and `close` once Kafka has refused a pack for good.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: Topics,
        settings: WriterSettings | None = None,
        protect: Protect | None = None,
    ) -> None:
        self._kafka = kafka
        self._protect = protect
        self._topic = topics.game_events
        self._settings = settings or WriterSettings()
        packs = self._settings.mode == "pack"
        self._encode: Callable[[Any], bytes] = (
            msgspec.msgpack.Encoder().encode if packs else msgspec.json.Encoder().encode
        )
        self._limit = self._settings.pack_bytes - HEADER_BYTES
        self._producer: AIOKafkaProducer | None = None
        self._lanes: list[Lane] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        self._progress = asyncio.Event()
        self._closing = False
        self._error: BaseException | None = None
        self._packs = self._bytes = self._refused = self._buffered_bytes = 0
        self._waited_s = 0.0
        self.partition_of: Partitioner = Partitioner(1)
        """The partition of an actor id; right once the writer is started."""
        self.on_progress: Callable[[int], None] | None = None
        """Called with the bytes that Kafka has taken, and with 0 when the writer has failed."""

    @staticmethod
    def open(
        kafka: KafkaSettings,
        topics: Topics,
        settings: WriterSettings | None = None,
        protect: Protect | None = None,
    ) -> BlockingEventWriter:
        """Return a started writer for a game without asyncio; it has a thread of its own."""
        from streams.blocking import BlockingEventWriter  # it imports this module

        return BlockingEventWriter(kafka, topics, settings, protect)

    async def start(self) -> None:
        """Connect and learn the topic's partitions.

        Raises:
            WriteError: no broker answers, or the topic does not exist.
        """
        use_fast_lz4()
        producer = AIOKafkaProducer(
            **self._kafka.client(),
            client_id=self._settings.client_id,
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=_BATCH_BYTES,
            linger_ms=0,  # the lanes linger
        )
        # aiokafka gives a batch up when its partition has had no leader for a request time-out,
        # and leaves a hole in the sequence numbers: an idempotent writer waits instead.
        producer._message_accumulator._batch_ttl = math.inf
        try:
            await start(producer)
            partitions = await producer.partitions_for(self._topic)
        except KafkaError as error:
            await producer.stop()
            msg = f"topic {self._topic} must exist on a broker that answers; got {error!r}"
            raise WriteError(msg) from error
        self._producer = producer
        self.partition_of = Partitioner(len(partitions))
        self._lanes = [Lane(p, self._settings) for p in sorted(partitions)]
        self._tasks = [asyncio.create_task(self._run(lane)) for lane in self._lanes]

    async def send(self, event: ActorEvent) -> None:
        """Take an event, waiting while the buffer is full.

        It is written when `flush` or `close` has returned, or soon after by itself.

        Raises:
            ValueError: the event is too large, and the message names its largest field; or it
                would tell who a player is.
        """
        event = self.protected(event)
        chunk = self.encode(event)
        if not self._has_room(len(chunk)):
            await self._wait_for_room(len(chunk))
        self.accept(event.actor_id, chunk)

    def send_nowait(self, event: ActorEvent) -> bool:
        """Take an event if there is room; False, and counted as refused, when there is none."""
        event = self.protected(event)
        chunk = self.encode(event)
        if not self._has_room(len(chunk)):
            self._refused += 1
            return False
        self.accept(event.actor_id, chunk)
        return True

    def protected(self, event: ActorEvent) -> ActorEvent:
        """Return the event as it may be written: no player's own id, no text that is not sealed.

        Raises:
            ValueError: it would tell who a player is, or its text is too long to be sealed.
        """
        if self._protect is not None:
            return self._protect(event)
        refuse_raw_player(event)
        return event

    def encode(self, event: ActorEvent) -> bytes:
        """Return the bytes of a protected event in a pack, or as JSON.

        Raises:
            ValueError: they are more than a pack may hold.
        """
        chunk = self._encode(event)
        if len(chunk) > self._limit:
            name, size = largest_field(event, self._encode)
            msg = (
                f"{type(event).__name__} of {event.actor_id!r} must be at most {self._limit} "
                f"bytes; got {len(chunk)} (its field {name} has {size}: put less into it)"
            )
            raise ValueError(msg)
        return chunk

    def accept(self, actor_id: str, chunk: bytes) -> None:
        """Queue an encoded event without asking for room; must run on the writer's loop.

        Raises:
            WriteError: the writer is not started, closed or failed.
        """
        if self._error is not None or self._closing or self._producer is None:
            raise self._unusable()
        self._bytes += len(chunk)
        self._buffered_bytes += len(chunk)
        self._lanes[self.partition_of(actor_id)].put(actor_id, chunk)

    async def flush(self) -> None:
        """Return when Kafka has acknowledged all that was sent before."""
        targets = [(lane, lane.accepted) for lane in self._lanes]
        for lane in self._lanes:
            lane.hurry()
        for lane, target in targets:
            while lane.acknowledged < target and self._error is None:
                self._progress.clear()
                await self._progress.wait()
        if self._error is not None:
            raise self._unusable()

    async def close(self, timeout_s: float | None = None) -> None:
        """Write all that is buffered and disconnect. Calling it again does nothing.

        Raises:
            WriteError: after `timeout_s` events were still unacknowledged (None waits for the
                broker as long as it takes), or Kafka refused some; those are lost.
        """
        if self._producer is None:
            return
        self._closing = True
        for lane in self._lanes:
            lane.close()
        problem: BaseException | None = None
        try:
            await asyncio.wait_for(self.flush(), timeout_s)
        except (TimeoutError, WriteError) as error:
            problem = error
        producer, self._producer = self._producer, None
        n_left = self.stats().buffered_events
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await (_abandon(producer) if n_left else producer.stop())
        if problem is not None:
            msg = f"{n_left} events were not acknowledged by {self._topic}: {problem!r}"
            raise WriteError(msg) from problem

    def stats(self) -> WriterStats:
        """Return the counts so far."""
        events = sum(lane.accepted for lane in self._lanes)
        return WriterStats(
            events=events,
            packs=self._packs,
            bytes=self._bytes,
            buffered_events=events - sum(lane.acknowledged for lane in self._lanes),
            buffered_bytes=self._buffered_bytes,
            refused=self._refused,
            waited_s=self._waited_s,
            last_error=None if self._error is None else repr(self._error),
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def _unusable(self) -> WriteError:
        if self._error is not None:
            return WriteError(f"Kafka refused events for good: {self._error!r}")
        return WriteError("the writer must be started and not closed when it is used")

    def _has_room(self, n_bytes: int) -> bool:
        """Whether an event can be taken at once; those who wait already go first."""
        free = self._buffered_bytes + n_bytes <= self._settings.buffer_bytes
        return (free and not self._turn.locked()) or self._error is not None

    async def _wait_for_room(self, n_bytes: int) -> None:
        since = time.monotonic()
        try:
            async with self._turn:  # asyncio's locks are handed on in order
                while self._buffered_bytes + n_bytes > self._settings.buffer_bytes:
                    if self._error is not None or self._closing:
                        raise self._unusable()
                    self._progress.clear()
                    await self._progress.wait()
        finally:
            self._waited_s += time.monotonic() - since

    async def _run(self, lane: Lane) -> None:
        """Send what is due in one partition, one batch after the other."""
        try:
            while True:
                await lane.due()
                producer = self._producer
                if producer is None:
                    return
                batch = producer.create_batch()
                records, n_events, n_bytes = lane.take(_BATCH_BYTES - batch.size())
                for key, value in records:
                    if batch.append(timestamp=None, key=key, value=value) is None:
                        msg = f"a batch must hold {n_bytes} bytes in {len(records)} records"
                        raise WriteError(msg)
                sent = await self._submit(producer, batch, lane.partition)
                done = partial(self._acknowledge, lane, n_events, n_bytes, len(records))
                sent.add_done_callback(done)
        except Exception as error:  # whatever it is, what is buffered cannot be written in order
            self._fail(error)

    async def _submit(
        self, producer: AIOKafkaProducer, batch: Any, partition: int
    ) -> asyncio.Future[Any]:
        """Hand a batch to the producer as soon as the one before it has left."""
        while True:
            try:
                return cast(
                    "asyncio.Future[Any]",
                    await producer.send_batch(batch, self._topic, partition=partition),
                )
            except KafkaTimeoutError:  # not taken: the broker is away
                continue

    def _acknowledge(
        self, lane: Lane, n_events: int, n_bytes: int, n_records: int, sent: asyncio.Future[Any]
    ) -> None:
        error = None if sent.cancelled() else sent.exception()
        if error is not None or sent.cancelled():
            self._fail(error or WriteError("the producer was stopped"))
            return
        lane.acknowledged += n_events
        self._packs += n_records
        self._buffered_bytes -= n_bytes
        self._progress.set()
        if self.on_progress is not None:
            self.on_progress(n_bytes)

    def _fail(self, error: BaseException) -> None:
        """Remember the first error and wake everyone who waits."""
        if self._error is None and self._producer is not None:
            self._error = error
        self._progress.set()
        if self.on_progress is not None:
            self.on_progress(0)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """Disconnect without waiting for what is not acknowledged, as `AIOKafkaProducer.stop` would."""
    producer._closed = True
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
        await asyncio.wait([sender], timeout=_ABANDON_S)
    await producer.client.close()
