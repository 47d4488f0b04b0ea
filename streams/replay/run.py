"""The replay itself: rows read in a fixed order, picked, counted and handed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from schemas.codec import BadEvent
from schemas.kafka import KafkaSettings
from streams.archive import read_archive
from streams.reader import At, Decoder, PartitionSpan, Span, read_topic, topic_spans
from streams.replay.digest import RowSetDigest
from streams.replay.selection import Selection, tag_of, time_of
from streams.replay.sinks import ReplayError, Sink

_TELL_EVERY = 2_000
OnProgress = Callable[[int, int | None], None]
"""Told (done, total): offsets of a topic, or rows of an archive, whose total is not known."""


class Count:
    """What was replayed so far."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.digest = RowSetDigest()
        self.n_read = 0
        self.n_bad = 0
        """Events that are none; each has its dead letter."""
        self.types: Counter[str] = Counter()
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self.spans: dict[int, PartitionSpan] = {}
        """Offsets read, by partition."""

    @property
    def n_rows(self) -> int:
        """Rows that were wanted."""
        return self.digest.n_rows

    def add(self, row: Any) -> None:
        """Count a row that was wanted."""
        self.digest.add(row)
        self.types[tag_of(row)] += 1
        time_ms = time_of(row)
        if time_ms is not None:
            self.first_ms = time_ms if self.first_ms is None else min(self.first_ms, time_ms)
            self.last_ms = time_ms if self.last_ms is None else max(self.last_ms, time_ms)


async def replay_topic(
    kafka: KafkaSettings,
    topic: str,
    decode: Decoder[Any],
    selection: Selection,
    span: Span,
    sink: Sink,
    on_progress: OnProgress | None = None,
) -> Count:
    """Hand a topic's wanted rows to the sink, partition after partition, and return the count.

    The end is fixed when the reading begins, so that the same offsets can be asked for again:
    they give the same rows in the same order, and the same digest.

    Raises:
        ReadError: the topic does not exist, no broker answers, or a record does not decode.
        ReplayError: a row does not fit the file.
    """
    count = Count()
    count.spans = await topic_spans(kafka, topic, span)
    total = sum(max(s.end - s.begin, 0) for s in count.spans.values())
    done = 0
    for partition, part in sorted(count.spans.items()):
        picker = selection.picker()
        async with aclosing(_rows(kafka, topic, decode, partition, part)) as rows:
            async for at in rows:
                count.n_read += 1
                if isinstance(at.row, BadEvent):
                    count.n_bad += 1
                elif picker.wants(at.row):
                    count.add(at.row)
                    sink.write((at.partition, at.offset, at.index), at.row)
                if on_progress is not None and count.n_read % _TELL_EVERY == 0:
                    on_progress(done + at.offset + 1 - part.begin, total)
        done += max(part.end - part.begin, 0)
        if on_progress is not None:
            on_progress(done, total)
    sink.close()
    return count


def _rows(
    kafka: KafkaSettings, topic: str, decode: Decoder[Any], partition: int, part: PartitionSpan
) -> AsyncGenerator[At[Any], None]:
    span = Span(
        partitions=[partition],
        from_offsets={partition: part.begin},
        to_offsets={partition: part.end},
    )
    return read_topic(kafka, topic, decode, span)


def replay_archive(
    url: str,
    selection: Selection,
    span: Span,
    sink: Sink,
    on_progress: OnProgress | None = None,
) -> Count:
    """Hand an archive's wanted rows to the sink, window after window, and return the count.

    The offsets of `span` are those of the events that the rows came from.

    Raises:
        ArchiveError: a file is no window, or holds other rows than were written.
        ReplayError: there are no windows, the span asks for times of the log, which windows do not
            keep, or a row does not fit the file.
    """
    if span.from_time_ms is not None or span.to_time_ms is not None:
        msg = "time must be event time for an archive; got times of the log (leave out --log-time)"
        raise ReplayError(msg)
    count = Count()
    picker = selection.picker()
    only = next(iter(selection.games)) if len(selection.games) == 1 else None
    for row in read_archive(url, only):
        count.n_read += 1
        if _within(span, row.origin.partition, row.origin.offset) and picker.wants(row):
            count.add(row)
            sink.write((row.origin.partition, row.origin.offset, row.origin.index), row)
        if on_progress is not None and count.n_read % _TELL_EVERY == 0:
            on_progress(count.n_read, None)
    sink.close()
    if count.n_read == 0:
        msg = f"{url} must hold windows; it holds none (run the archiver, or name another archive)"
        raise ReplayError(msg)
    return count


def _within(span: Span, partition: int, offset: int) -> bool:
    if span.partitions is not None and partition not in span.partitions:
        return False
    end = span.to_offsets.get(partition)
    return offset >= span.from_offsets.get(partition, 0) and (end is None or offset < end)


def summary(count: Count) -> dict[str, Any]:
    """Return the count for scripts."""
    spans: Mapping[int, PartitionSpan] = count.spans
    return {
        "rows": count.n_rows,
        "read": count.n_read,
        "bad": count.n_bad,
        "types": dict(sorted(count.types.items())),
        "first_time_ms": count.first_ms,
        "last_time_ms": count.last_ms,
        "offsets": {str(p): [s.begin, s.end] for p, s in sorted(spans.items())},
        "digest": count.digest.hexdigest(),
    }
