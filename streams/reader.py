"""Topics read back as typed rows with their places, from the beginning or as they come.

::

    async for at in read_topic(kafka, topics.game_events, decode_record):
        print(at.partition, at.offset, at.index, at.row)

What a decoder returns decides the rows: `schemas.codec.decode_record` for game events,
`schemas.records.decode_rows` for experiences, ``lambda value: [decode_window(value)]`` for windows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.kafka import KafkaSettings
from schemas.starting import start

T = TypeVar("T")
Decoder = Callable[[bytes], Iterable[T]]

FETCH_BYTES = 4_000_000
"""Fetched ahead of a partition, compressed."""
_WAIT_MS = 200


class ReadError(RuntimeError):
    """A topic cannot be read back, or a record of it is not what it must be."""


class At(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """A row and where it stands."""

    partition: int
    offset: int
    index: int
    """Place in the record; 0 when it holds one row."""
    time_ms: int
    """When the log took the record."""
    key: bytes | None
    row: T


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """What part of a topic is read; by default all that is there when the reading begins."""

    partitions: list[int] | None = None
    """None: all."""
    from_offsets: Mapping[int, int] = {}
    """First offset by partition; the beginning where not given."""
    to_offsets: Mapping[int, int] = {}
    """Offset to stop before, by partition; the present end where not given."""
    from_time_ms: int | None = None
    """Where no offset is given: the first record that the log took at or after this time."""
    to_time_ms: int | None = None
    """Where no offset is given: stop before the first record taken at or after this time."""


class PartitionSpan(msgspec.Struct, frozen=True):
    """Offsets of a partition: what the log holds, and what of it is read."""

    log_begin: int
    begin: int
    end: int


async def read_topic(
    kafka: KafkaSettings, topic: str, decode: Decoder[T], span: Span | None = None
) -> AsyncGenerator[At[T], None]:
    """Yield the rows of a topic, in order within each partition, and end where `span` ends.

    Only what is committed is read. An open transaction ends the topic where it begins.

    Raises:
        ReadError: the topic does not exist, no broker answers, or a record does not decode.
    """
    async for records in read_records(kafka, topic, span):
        for record in records:
            for at in _rows(topic, record, decode):
                yield at


async def read_records(
    kafka: KafkaSettings,
    topic: str,
    span: Span | None = None,
    fetch_bytes: int = FETCH_BYTES,
) -> AsyncGenerator[list[Any], None]:
    """Yield a topic's records as aiokafka gives them, some of one partition at a time.

    Raises:
        ReadError: the topic does not exist, or no broker answers.
    """
    consumer = await _open(kafka, fetch_bytes)
    try:
        spans = await _resolve(consumer, topic, span or Span())
        left = {TopicPartition(topic, p): s for p, s in spans.items() if s.begin < s.end}
        consumer.assign(list(left))
        for tp, part in left.items():
            consumer.seek(tp, part.begin)
        while left:
            fetched = await consumer.getmany(*left, timeout_ms=_WAIT_MS)
            for tp, records in fetched.items():
                end = left[tp].end
                wanted = records if records[-1].offset < end else _before(records, end)
                if wanted:
                    yield wanted
            for tp in list(left):
                # Not the last record's offset: what stands before the end may be no record at
                # all, but the mark that ends a transaction.
                if await consumer.position(tp) >= left[tp].end:
                    del left[tp]
    except KafkaError as error:
        msg = f"topic {topic} could not be read from {kafka.bootstrap_servers}: {error!r}"
        raise ReadError(msg) from error
    finally:
        await consumer.stop()


async def follow(
    kafka: KafkaSettings, topic: str, decode: Decoder[T], span: Span | None = None
) -> AsyncGenerator[At[T], None]:
    """Yield the rows of a topic as they come, without end; without a span, from now on.

    Only what is committed is read. The iterator is closed with ``aclose()``, or with its task.

    Raises:
        ReadError: the topic does not exist, no broker answers, or a record does not decode.
    """
    consumer = await _open(kafka)
    try:
        spans = await _resolve(consumer, topic, span or Span())
        consumer.assign([TopicPartition(topic, p) for p in spans])
        for p, part in spans.items():
            consumer.seek(TopicPartition(topic, p), part.end if span is None else part.begin)
        while True:
            fetched = await consumer.getmany(timeout_ms=_WAIT_MS)
            for records in fetched.values():
                for record in records:
                    for at in _rows(topic, record, decode):
                        yield at
    except KafkaError as error:
        msg = f"topic {topic} could not be followed at {kafka.bootstrap_servers}: {error!r}"
        raise ReadError(msg) from error
    finally:
        await consumer.stop()


async def topic_spans(
    kafka: KafkaSettings, topic: str, span: Span | None = None
) -> dict[int, PartitionSpan]:
    """Return the offsets that a reading would cover, by partition.

    Raises:
        ReadError: the topic does not exist, or no broker answers.
    """
    consumer = await _open(kafka)
    try:
        return await _resolve(consumer, topic, span or Span())
    except KafkaError as error:
        msg = f"topic {topic} could not be read from {kafka.bootstrap_servers}: {error!r}"
        raise ReadError(msg) from error
    finally:
        await consumer.stop()


async def _open(kafka: KafkaSettings, fetch_bytes: int = FETCH_BYTES) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        **kafka.client(),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=fetch_bytes,
    )
    try:
        await start(consumer)
    except KafkaError as error:
        await consumer.stop()
        msg = f"kafka.bootstrap_servers must be a broker that answers; got {error!r}"
        raise ReadError(msg) from error
    return consumer


async def _resolve(consumer: AIOKafkaConsumer, topic: str, span: Span) -> dict[int, PartitionSpan]:
    """Return the offsets of each partition that the span means."""
    known = await _partitions(consumer, topic)
    wanted = known if span.partitions is None else set(span.partitions)
    if not wanted <= known:
        msg = f"partitions of {topic} must be among {sorted(known)}; got {sorted(wanted)}"
        raise ReadError(msg)
    tps = [TopicPartition(topic, p) for p in sorted(wanted)]
    begins = await consumer.beginning_offsets(tps)
    ends = await consumer.end_offsets(tps)  # committed ones: so the consumer is set up
    after = await _at_time(consumer, tps, span.from_time_ms)
    before = await _at_time(consumer, tps, span.to_time_ms)
    spans: dict[int, PartitionSpan] = {}
    for tp in tps:
        begin, end = begins[tp], ends[tp]
        if span.from_time_ms is not None:
            begin = after.get(tp, end)
        if span.to_time_ms is not None:
            end = min(before.get(tp, end), end)
        begin = max(span.from_offsets.get(tp.partition, begin), begins[tp])
        end = min(span.to_offsets.get(tp.partition, end), ends[tp])
        spans[tp.partition] = PartitionSpan(begins[tp], begin, end)
    return spans


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    # The public calls know only topics that are assigned already.
    cluster = await consumer._client.fetch_all_metadata()
    partitions = cluster.partitions_for_topic(topic)
    if not partitions:
        known = ", ".join(sorted(cluster.topics())[:50]) or "none"
        msg = f"topic {topic} must exist; the brokers have {known}"
        raise ReadError(msg)
    return set(partitions)


async def _at_time(
    consumer: AIOKafkaConsumer, tps: list[TopicPartition], time_ms: int | None
) -> dict[TopicPartition, int]:
    """Return the first offset at or after a time, of partitions that have one."""
    if time_ms is None:
        return {}
    found = await consumer.offsets_for_times(dict.fromkeys(tps, time_ms))
    return {tp: place.offset for tp, place in found.items() if place is not None}


def _before(records: list[Any], end: int) -> list[Any]:
    return [record for record in records if record.offset < end]


def _rows(topic: str, record: Any, decode: Decoder[T]) -> Iterable[At[T]]:
    if record.value is None:
        return
    try:
        rows = list(decode(record.value))
    except (msgspec.MsgspecError, ValueError) as error:
        msg = (
            f"{topic} partition {record.partition} offset {record.offset} must decode; got {error}"
        )
        raise ReadError(msg) from error
    for index, row in enumerate(rows):
        yield At(record.partition, record.offset, index, record.timestamp, record.key, row)
