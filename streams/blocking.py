"""The event writer for games without asyncio: the same writer on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from schemas.events import ActorEvent
from schemas.kafka import KafkaSettings
from schemas.topics import Topics
from streams.writer import EventWriter, Protect, WriteError, WriterSettings, WriterStats

T = TypeVar("T")


class BlockingEventWriter:
    """`EventWriter` without ``await``; made by `EventWriter.open`, safe to use from any thread.

    An actor's events keep their order when one thread at a time sends them.

    Raises:
        WriteError: no broker answers, the topic does not exist, or Kafka has refused a pack.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: Topics,
        settings: WriterSettings | None = None,
        protect: Protect | None = None,
    ) -> None:
        settings = settings or WriterSettings()
        self._limit = settings.buffer_bytes
        # Room is asked for here, where the caller can be blocked, not on the loop.
        self._writer = EventWriter(kafka, topics, settings, protect)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="grindstone-writer", daemon=True
        )
        self._changed = threading.Condition()
        self._queue: deque[tuple[str, bytes]] = deque()
        self._buffered_bytes = 0
        self._failed = self._closed = False
        self._refused = 0
        self._waited_s = 0.0
        self._writer.on_progress = self._progress
        self._thread.start()
        try:
            self._call(self._writer.start())
        except BaseException:
            self._stop_thread()
            raise

    def send(self, event: ActorEvent, timeout_s: float | None = None) -> None:
        """Take an event, blocking while the buffer is full.

        Raises:
            ValueError: the event is too large, and the message names its largest field; or it
                would tell who a player is.
            WriteError: the writer is closed or failed, or no room came within `timeout_s`.
        """
        event = self._writer.protected(event)
        chunk = self._writer.encode(event)
        with self._changed:
            if not self._has_room(len(chunk)):
                self._wait_for_room(len(chunk), timeout_s)
            self._put(event.actor_id, chunk)

    def send_nowait(self, event: ActorEvent) -> bool:
        """Take an event if there is room; False, and counted as refused, when there is none."""
        event = self._writer.protected(event)
        chunk = self._writer.encode(event)
        with self._changed:
            if not self._has_room(len(chunk)):
                self._refused += 1
                return False
            self._put(event.actor_id, chunk)
            return True

    def flush(self) -> None:
        """Return when Kafka has acknowledged all that was sent before."""
        self._check_usable()
        self._call(self._writer.flush())

    def close(self, timeout_s: float | None = None) -> None:
        """Write all that is buffered and end the thread. Calling it again does nothing.

        Raises:
            WriteError: events were not acknowledged, within `timeout_s` if that is given.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        try:
            self._call(self._writer.close(timeout_s))
        finally:
            self._stop_thread()

    def stats(self) -> WriterStats:
        """Return the counts so far; what this thread holds back is counted as buffered."""
        with self._changed:
            n_queued, inner = len(self._queue), self._writer.stats()
            return msgspec.structs.replace(
                inner,
                events=inner.events + n_queued,
                buffered_events=inner.buffered_events + n_queued,
                buffered_bytes=self._buffered_bytes,
                refused=self._refused,
                waited_s=self._waited_s,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _has_room(self, n_bytes: int) -> bool:
        return self._failed or self._buffered_bytes + n_bytes <= self._limit

    def _wait_for_room(self, n_bytes: int, timeout_s: float | None) -> None:
        since = time.monotonic()
        room = self._changed.wait_for(lambda: self._closed or self._has_room(n_bytes), timeout_s)
        self._waited_s += time.monotonic() - since
        if not room:
            msg = f"no room for {n_bytes} bytes came within {timeout_s} s: the broker is slow"
            raise WriteError(msg)

    def _put(self, actor_id: str, chunk: bytes) -> None:
        self._check_usable()
        self._buffered_bytes += len(chunk)
        self._queue.append((actor_id, chunk))
        if len(self._queue) == 1:  # else the loop has been told and will take this one too
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        """Hand what was sent to the writer; runs on its loop."""
        with self._changed:
            taken, self._queue = self._queue, deque()
        if self._failed:
            return
        for actor_id, chunk in taken:
            self._writer.accept(actor_id, chunk)

    def _progress(self, n_bytes: int) -> None:
        with self._changed:
            self._buffered_bytes -= n_bytes
            self._failed = self._failed or n_bytes == 0
            self._changed.notify_all()

    def _check_usable(self) -> None:
        if self._failed:
            msg = f"Kafka refused events for good: {self._writer.stats().last_error}"
            raise WriteError(msg)
        if self._closed:
            msg = "the writer must not be closed when it is used"
            raise WriteError(msg)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the writer's loop, behind all that was sent before."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
