"""What waits for one partition in the event writer, and how it is cut into records."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from schemas.limits import MAX_PACK_BYTES, MAX_PACK_EVENTS

HEADER_BYTES: Final = 5
"""The longest MessagePack array header."""
RECORD_OVERHEAD_BYTES: Final = 64
"""More than a record's own fields take in a produce batch, without key and value."""

LaneRecord = tuple[bytes | None, bytes]
"""Key and value of one Kafka record."""


def array_header(n: int) -> bytes:
    """Return the MessagePack header of an array of `n` elements, in its shortest form."""
    if n < 16:
        return bytes((0x90 | n,))
    if n < 65_536:
        return b"\xdc" + n.to_bytes(2, "big")
    return b"\xdd" + n.to_bytes(4, "big")


def largest_field(event: msgspec.Struct, encode: Callable[[Any], bytes]) -> tuple[str, int]:
    """Return the field of an event that takes most bytes, and how many."""
    sizes = {name: len(encode(getattr(event, name))) for name in event.__struct_fields__}
    return max(sizes.items(), key=lambda item: item[1])


class WriterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How events are packed and how many may wait.

    Raises:
        ValueError: a value is out of its range.
    """

    mode: Literal["pack", "single"] = "pack"
    """``single`` writes one JSON record an event: readable by any tool, at twice the cost."""
    linger_ms: float = 20.0
    """How long a pack that is not full waits for more events."""
    pack_events: int = MAX_PACK_EVENTS
    pack_bytes: int = MAX_PACK_BYTES
    buffer_bytes: int = 32_000_000
    """Events that are not acknowledged yet; beyond it `send` waits and `send_nowait` refuses."""
    client_id: str = "grindstone-writer"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("linger_ms", 0, 10_000),
            ("pack_events", 1, MAX_PACK_EVENTS),
            ("pack_bytes", 1_000, MAX_PACK_BYTES),
            ("buffer_bytes", self.pack_bytes, 2**40),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                msg = f"writer.{name} must be from {low} to {high}; got {value}"
                raise ValueError(msg)


class Lane:
    """Encoded events of one partition, in order, and when a pack of them is due.

    A pack is due when it is full, when its first event has lingered long enough, or at once after
    `hurry` and `close`.
    """

    def __init__(self, partition: int, settings: WriterSettings) -> None:
        self.partition: Final = partition
        self.accepted = 0
        """Events put so far."""
        self.acknowledged = 0
        """Events that Kafka has taken, always the first ones."""
        self._single = settings.mode == "single"
        self._max_events = settings.pack_events
        self._max_bytes = settings.pack_bytes - HEADER_BYTES
        self._linger_s = settings.linger_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes] = deque()
        self._keys: deque[str] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due = asyncio.Event()
        self._closed = False

    def put(self, actor_id: str, chunk: bytes) -> None:
        """Append an encoded event."""
        self.accepted += 1
        self._chunks.append(chunk)
        if self._single:
            self._keys.append(actor_id)
        self._bytes += len(chunk)
        if self._closed or self._is_full(len(chunk)):
            self._due.set()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._linger_s, self._due.set)

    def hurry(self) -> None:
        """Make what waits now due at once."""
        if self._chunks:
            self._due.set()

    def close(self) -> None:
        """Make all due at once from now on."""
        self._closed = True
        self.hurry()

    async def due(self) -> None:
        """Return when there is something to take."""
        await self._due.wait()

    def take(self, room_bytes: int) -> tuple[list[LaneRecord], int, int]:
        """Remove and return records that fit in `room_bytes`, with their events and bytes.

        At least one record is returned, then only full ones: the rest lingers on.
        """
        self._reset_timer()
        records: list[LaneRecord] = []
        n_events = n_bytes = 0
        while self._chunks and (not records or self._closed or self._single or self._is_full(0)):
            record, n, size = self._next(room_bytes)
            if n == 0:
                break
            records.append(record)
            n_events, n_bytes = n_events + n, n_bytes + size
            self._bytes -= size
            room_bytes -= size + RECORD_OVERHEAD_BYTES + len(record[0] or b"")
        self._schedule_rest()
        return records, n_events, n_bytes

    def _next(self, room_bytes: int) -> tuple[LaneRecord, int, int]:
        """Remove one record's events; zero of them when they do not fit."""
        chunks = self._chunks
        if self._single:
            key = self._keys[0].encode()
            size = len(chunks[0])
            if size + len(key) + RECORD_OVERHEAD_BYTES > room_bytes:
                return (None, b""), 0, 0
            self._keys.popleft()
            return (key, chunks.popleft()), 1, size
        limit = min(self._max_bytes, room_bytes - RECORD_OVERHEAD_BYTES - HEADER_BYTES)
        taken: list[bytes] = []
        size = 0
        while chunks and len(taken) < self._max_events and size + len(chunks[0]) <= limit:
            size += len(chunks[0])
            taken.append(chunks.popleft())
        if chunks and limit < self._max_bytes and len(taken) < self._max_events:
            chunks.extendleft(reversed(taken))  # the room cut it short: a full pack comes next time
            return (None, b""), 0, 0
        return (None, array_header(len(taken)) + b"".join(taken)), len(taken), size

    def _is_full(self, last_bytes: int) -> bool:
        """Whether a pack of what waits could hardly take another event like the last."""
        return len(self._chunks) >= self._max_events or self._bytes + last_bytes > self._max_bytes

    def _reset_timer(self) -> None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule_rest(self) -> None:
        if not self._chunks:
            return
        if self._closed or self._is_full(0):
            self._due.set()
        else:
            self._timer = self._loop.call_later(self._linger_s, self._due.set)
