"""What a batch writes: rows with their origins, and dead letters, in the order they arose."""

from __future__ import annotations

from schemas.records import (
    MAX_RAW_BYTES,
    DeadLetter,
    Origin,
    Row,
    encode_dead_letter,
    encode_rows,
)
from schemas.topics import Topics
from streams.engine.records import Output, Record

ROWS_PER_RECORD = 48
"""Experiences of 7 KB each stay well under a record's limit."""


class Outbox:
    """Collects a batch's outputs of one partition."""

    def __init__(self, partition: int, topics: Topics) -> None:
        """Begin with nothing to write."""
        self.rows: list[Row] = []
        self.offset = 0
        """In the source, of the record that is folded."""
        self.index = 0
        """Outputs of that record so far."""
        self._partition = partition
        self._topics = topics
        self._letters: list[DeadLetter] = []
        self._record: Record | None = None

    def at(self, record: Record) -> None:
        """Say which record what follows comes from."""
        self._record = record
        self.offset, self.index = record.offset, 0

    def origin(self) -> Origin:
        """Return the origin of the next row."""
        index = self.index
        self.index = index + 1
        return Origin(self._partition, self.offset, index)

    def refuse(self, index: int, reason: str, path: str, raw: bytes) -> None:
        """Write a dead letter for an event of the record."""
        if self._record is None:
            return
        self._letters.append(
            DeadLetter(
                topic=self._topics.game_events,
                partition=self._record.partition,
                offset=self._record.offset,
                index=index,
                reason=reason,
                path=path,
                time_ms=self._record.timestamp,
                raw=raw[:MAX_RAW_BYTES],
                n_bytes=len(raw),
            )
        )

    def take(self) -> list[Output]:
        """Return what is to be written, and begin anew."""
        rows, letters = self.rows, self._letters
        self.rows, self._letters = [], []
        outputs = [
            Output(self._topics.experiences, encode_rows(rows[i : i + ROWS_PER_RECORD]))
            for i in range(0, len(rows), ROWS_PER_RECORD)
        ]
        key = self._topics.game_events.encode()
        outputs += [
            Output(self._topics.dead_letters, encode_dead_letter(x), key, 0) for x in letters
        ]
        return outputs
