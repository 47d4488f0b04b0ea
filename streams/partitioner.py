"""Which partition an actor's events go to: the same one that Java's clients choose."""

from __future__ import annotations

import struct
from typing import Final

_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_MASK: Final = 0xFFFFFFFF
_MAX_REMEMBERED: Final = 65_536
"""Actors whose partition is remembered: a hash costs 3 us, a look-up 0.1."""


def murmur2(data: bytes) -> int:
    """Return the 32-bit MurmurHash2 of `data`, unsigned.

    The variant and seed of `org.apache.kafka.common.utils.Utils.murmur2`.
    """
    n_words, n_rest = divmod(len(data), 4)
    h = _SEED ^ len(data)
    for word in struct.unpack_from(f"<{n_words}I", data):
        k = word * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    if n_rest:
        h = (h ^ int.from_bytes(data[-n_rest:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, n_partitions: int) -> int:
    """Return the partition of `key`, in [0, n_partitions), as Java's default partitioner does."""
    return (murmur2(key) & 0x7FFFFFFF) % n_partitions


class Partitioner:
    """Remembers the partition of each actor, so that a busy actor is hashed once."""

    def __init__(self, n_partitions: int) -> None:
        if n_partitions < 1:
            msg = f"n_partitions must be at least 1; got {n_partitions}"
            raise ValueError(msg)
        self.n_partitions: Final = n_partitions
        self._known: dict[str, int] = {}

    def __call__(self, actor_id: str) -> int:
        """Return the partition of `actor_id`."""
        found = self._known.get(actor_id)
        if found is not None:
            return found
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        partition = partition_of(actor_id.encode(), self.n_partitions)
        self._known[actor_id] = partition
        return partition
