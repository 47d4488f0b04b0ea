"""Topics read back: all that is committed, typed, with places, and then an end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer

from schemas.kafka import KafkaSettings
from schemas.records import Row, decode_rows, encode_rows
from schemas.topics import Topics
from streams.reader import At, ReadError, Span, follow, read_topic, topic_spans
from tests.streams.streamkit import make_topics, rows_of_log, write_rows

pytestmark = pytest.mark.integration


async def _read(kafka: KafkaSettings, topics: Topics, span: Span | None = None) -> list[At[Row]]:
    return [at async for at in read_topic(kafka, topics.experiences, decode_rows, span)]


async def _write_marked(kafka: KafkaSettings, topics: Topics, rows: Sequence[Row]) -> None:
    """One row a record, each taken by the log at a later millisecond than the one before."""
    producer = AIOKafkaProducer(**kafka.client())
    await producer.start()
    for row in rows:
        await producer.send_and_wait(topics.experiences, encode_rows([row]), partition=0)
        await asyncio.sleep(0.002)
    await producer.stop()


def test_reader_gives_what_is_committed_in_order_and_ends(broker: str, topics_prefix: str) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        rows = {p: rows_of_log(p, 130) for p in range(2)}
        for p in range(2):
            await write_rows(kafka, topics, p, rows[p])  # its end is the mark of a transaction
        found = await _read(kafka, topics)
        for p in range(2):
            mine = [at for at in found if at.partition == p]
            assert [at.row for at in mine] == rows[p]
            places = [(at.offset, at.index) for at in mine]
            assert places == sorted(set(places))
            assert mine[0].time_ms > 0 and mine[0].key is None

    asyncio.run(work())


def test_reader_stops_before_an_open_transaction(broker: str, topics_prefix: str) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        await write_rows(kafka, topics, 0, rows_of_log(0, 10))
        producer = AIOKafkaProducer(**kafka.client(), transactional_id=f"{topics_prefix}open")
        await producer.start()
        await producer.begin_transaction()
        hidden = encode_rows(rows_of_log(0, 3))
        await producer.send_and_wait(topics.experiences, hidden, partition=0)
        assert len(await asyncio.wait_for(_read(kafka, topics), 20)) == 10
        await producer.abort_transaction()
        await producer.stop()
        assert len(await asyncio.wait_for(_read(kafka, topics), 20)) == 10

    asyncio.run(work())


def test_reader_reads_spans_by_offset_and_time(broker: str, topics_prefix: str) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        await _write_marked(kafka, topics, rows_of_log(0, 10))

        async def offsets(span: Span) -> list[int]:
            return [at.offset for at in await _read(kafka, topics, span)]

        assert await offsets(Span(from_offsets={0: 7})) == [7, 8, 9]
        assert await offsets(Span(from_offsets={0: 2}, to_offsets={0: 5})) == [2, 3, 4]
        times = [at.time_ms for at in await _read(kafka, topics)]
        assert times == sorted(set(times))
        assert await offsets(Span(from_time_ms=times[7] + 1)) == [8, 9]
        assert await offsets(Span(to_time_ms=times[2])) == [0, 1]
        assert await offsets(Span(from_time_ms=times[9] + 1)) == []
        assert await offsets(Span(from_offsets={0: 4}, to_time_ms=times[6])) == [4, 5]
        assert await offsets(Span(partitions=[1])) == []
        spans = await topic_spans(kafka, topics.experiences)
        assert [(s.log_begin, s.begin, s.end) for s in spans.values()] == [(0, 0, 10), (0, 0, 0)]
        with pytest.raises(ReadError, match=r"must be among \[0, 1\]; got \[7\]"):
            await _read(kafka, topics, Span(partitions=[7]))

    asyncio.run(work())


def test_reader_says_which_topic_or_record_is_wrong(broker: str, topics_prefix: str) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        producer = AIOKafkaProducer(**kafka.client())
        await producer.start()
        await producer.send_and_wait(topics.experiences, b"\x91\xa1x", partition=1)
        await producer.stop()
        with pytest.raises(ReadError, match=r"partition 1 offset 0 must decode"):
            await _read(kafka, topics)
        with pytest.raises(ReadError, match="must exist; the brokers have"):
            await _read(kafka, Topics(f"{topics_prefix}no-"))
        nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:1")
        with pytest.raises(ReadError, match="must be a broker that answers"):
            await _read(nowhere, topics)

    asyncio.run(work())


def test_follow_gives_rows_as_they_come(broker: str, topics_prefix: str) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        old, new = rows_of_log(0, 12)[:6], rows_of_log(0, 12)[6:]
        await _write_marked(kafka, topics, old)
        from_start = follow(kafka, topics.experiences, decode_rows, Span())
        assert [(await anext(from_start)).row for _ in old] == old
        from_now = follow(kafka, topics.experiences, decode_rows)
        waiting = asyncio.ensure_future(anext(from_now))
        await asyncio.sleep(0.5)  # until it stands at the end: nothing says when it does
        await _write_marked(kafka, topics, new)
        assert (await asyncio.wait_for(waiting, 20)).row in new
        assert [(await anext(from_start)).row for _ in new] == new
        await from_now.aclose()
        await from_start.aclose()

    asyncio.run(work())
