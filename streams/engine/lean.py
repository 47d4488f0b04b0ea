"""Records as the engine wants them, straight from what was fetched.

aiokafka makes a record of eleven fields of each, of which the engine needs five: with it, a record
costs 1.1 us more on its way to the fold, as much as its whole JSON takes to decode. A changelog's
records are not wanted one by one at all: a table takes whole batches of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from aiokafka.consumer import fetcher

from streams.engine.records import Record


def _record(tp: Any, record: Any) -> Record:
    return Record(tp.partition, record.offset, record.timestamp, record.key, record.value)


class _Mark:
    """Stands in a consumer's ``key_deserializer`` and leaves keys as they are."""

    def __init__(self) -> None:
        fetcher.PartitionRecords = LeanRecords

    def __call__(self, data: bytes | None) -> bytes | None:
        """Return the key as it is."""
        return data


class Lean(_Mark):
    """Marks a consumer whose records are `streams.engine.records.Record`."""


class Bulk(_Mark):
    """Marks a consumer that hands its committed batches to ``take`` and returns no records."""

    def __init__(self, take: Callable[[Iterator[Any]], None]) -> None:
        super().__init__()
        self.take = take


class LeanRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """What was fetched of one partition; consumers without a mark get what they always got."""

    _records: Any

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if isinstance(self._key_deserializer, Bulk):
            self._records = _Batches(self._records, self._key_deserializer.take)
        elif isinstance(self._key_deserializer, Lean):
            self._consumer_record = _record

    def __iter__(self) -> Iterator[Any]:
        """Return the iterator itself, without a call in front of each record."""
        iterator: Iterator[Any] = self._records_iterator
        return iterator


class _Batches:
    """aiokafka's batches, each as a `_Batch`: which ones are committed remains its affair."""

    def __init__(self, batches: Any, take: Callable[[Iterator[Any]], None]) -> None:
        self.has_next = batches.has_next
        self._next, self._take = batches.next_batch, take

    def next_batch(self) -> _Batch | None:
        batch = self._next()
        return None if batch is None else _Batch(batch, self._take)


class _Batch:
    """One batch, empty to whoever iterates over it: its records have gone to ``take`` by then."""

    def __init__(self, batch: Any, take: Callable[[Iterator[Any]], None]) -> None:
        self._batch, self._take = batch, take

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        self._take(iter(self._batch))
        return iter(())
