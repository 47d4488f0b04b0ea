"""Which records may be folded next: in order, each once, none left out."""

from __future__ import annotations

from typing import Protocol, TypeVar

from streams.engine.records import Record


class HasOffset(Protocol):
    """Anything with a log offset."""

    @property
    def offset(self) -> int:
        """Position in the partition's log."""
        ...


R = TypeVar("R", bound=HasOffset)


class Cursor:
    """The offset a partition wants next, and the rule by which an answer is taken.

    An answer may come from a fetch of before a seek. It is judged by its first offset alone:
    smaller is trimmed; larger is asked for again, and only the same answer twice is a true hole
    (transaction markers, compacted or expired records).
    """

    __slots__ = ("_asked", "want")

    def __init__(self, want: int) -> None:
        self.want = want
        self._asked: tuple[int, int] | None = None

    def accept(self, records: list[R], position: int) -> list[R] | None:
        """Return the records to fold, or None when the caller must seek to `want` and ask again.

        Args:
            records: one answer of the consumer, not empty.
            position: the consumer's position right after that answer, with no await between. It
                stands behind the transaction markers that follow the records, so that a source
                full of markers is not asked twice at each.
        """
        first = records[0].offset
        if self.is_hole(first) and self._asked != (self.want, first):
            self._asked = (self.want, first)
            return None
        kept = records
        if first < self.want:
            kept = [r for r in records if r.offset >= self.want]
        self.want = max(self.want, records[-1].offset + 1, position)
        return kept

    def is_hole(self, first: int) -> bool:
        """Return whether an answer that starts at `first` leaves records out."""
        return first > self.want


def cut(records: list[Record], max_bytes: int) -> tuple[list[Record], list[Record]]:
    """Split so that the first part has at most `max_bytes` of keys and values, or one record."""
    sizes = [len(r.key or b"") + len(r.value or b"") for r in records]
    if sum(sizes) <= max_bytes:  # as a rule
        return records, []
    taken = 0
    for i, size in enumerate(sizes):
        taken += size
        if taken > max_bytes and i:
            return records[:i], records[i:]
    return records, []
