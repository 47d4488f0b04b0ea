"""How much is folded at once: as much as the heartbeats allow."""

from __future__ import annotations

FIRST_BYTES = 100_000
"""After a take-over: whoever had the partition before may have lost it over a fold that took too
long, and a worker that begins with as large a batch would lose it likewise, without end."""
LEAST_BYTES = 10_000
SHARE = 0.1
"""Of the session time-out that one fold may take. No heartbeat is sent meanwhile, and the other
partitions of the worker come in between."""


class Pace:
    """The size of a partition's batches, in bytes of keys and values."""

    __slots__ = ("_limit_s", "_most", "max_bytes")

    def __init__(self, most_bytes: int, session_timeout_ms: int) -> None:
        self._most = most_bytes
        self._limit_s = session_timeout_ms / 1000 * SHARE
        self.max_bytes = min(FIRST_BYTES, most_bytes)

    def folded(self, seconds: float, *, full: bool) -> None:
        """Take note of how long a batch took; `full` says whether more would have been there."""
        if seconds > self._limit_s:
            self.max_bytes = max(self.max_bytes // 2, min(LEAST_BYTES, self._most))
        elif full and seconds < self._limit_s / 4:
            self.max_bytes = min(self.max_bytes * 2, self._most)
