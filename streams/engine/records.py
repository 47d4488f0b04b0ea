"""What goes into a fold and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

OFFSET_KEY = b"\0offset"
"""Changelog key of the last folded source offset; other keys from ``\\0`` on are the fold's own."""

Table = Mapping[bytes, bytes]
"""A partition's states, read-only; what a batch changes is visible from the next batch on."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record of the source topic."""

    partition: int
    offset: int
    timestamp: int
    """When the log took it, in UTC milliseconds."""
    key: bytes | None
    value: bytes | None


class Output(msgspec.Struct, frozen=True, gc=False):
    """One record to write in the batch's transaction."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    """None: the source partition's number, modulo the number of partitions of the topic."""


class Effects(msgspec.Struct):
    """All that a batch does: written together with the source offset, or not at all."""

    outputs: list[Output] = msgspec.field(default_factory=list)
    states: dict[bytes, bytes | None] = msgspec.field(default_factory=dict)
    """Changed states; None removes a key."""


class PartitionFold(Protocol):
    """The rule of one partition: pure, so no clock, no I/O and no randomness."""

    def fold(self, records: Sequence[Record]) -> Effects:
        """Return what these records do; they follow on those of the call before."""
        ...


FoldFactory = Callable[[int, Table], PartitionFold]
"""Called with partition number and recovered table each time a partition is taken over."""


class Batch:
    """Records of one partition, in order and without holes, on their way to the fold."""

    __slots__ = ("cancelled", "part", "records")

    def __init__(self, part: object, records: list[Record]) -> None:
        self.part = part
        self.records = records
        self.cancelled = False
        """True: the partition went to another owner before the fold; nothing is to be done."""

    @property
    def partition(self) -> int:
        """The source partition's number."""
        return self.records[0].partition

    def __repr__(self) -> str:
        first, last = self.records[0].offset, self.records[-1].offset
        return f"Batch(partition={self.partition}, offsets={first}..{last})"
