"""The event writer against a real broker: order, back pressure, refusals, a broker that dies."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from pathlib import Path

import pytest

from infra.kafka.broker import LocalBroker
from schemas.codec import decode_record
from schemas.events import Decision, Event
from schemas.kafka import KafkaSettings
from schemas.topics import Topics
from streams.partitioner import partition_of
from streams.reader import read_records, read_topic
from streams.writer import EventWriter, WriteError, WriterSettings
from tests.streams.streamkit import decision, make_topics, outcome
from tests.support import eventually

pytestmark = pytest.mark.integration


async def _events(kafka: KafkaSettings, topics: Topics) -> dict[str, list[str]]:
    """Return the decision ids of each actor, in the order of the log; partitions are checked."""
    found: dict[str, list[str]] = defaultdict(list)
    async for at in read_topic(kafka, topics.game_events, decode_record):
        event = at.row
        assert isinstance(event, Decision)
        assert at.partition == partition_of(event.actor_id.encode(), 2)
        found[event.actor_id].append(event.decision_id)
    return found


@pytest.mark.parametrize("mode", ["pack", "single"])
def test_writer_keeps_the_order_of_each_actor_and_loses_nothing(
    broker: str, topics_prefix: str, mode: str
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        settings = WriterSettings(mode="pack" if mode == "pack" else "single", linger_ms=5)
        async with EventWriter(kafka, topics, settings) as writer:
            for n in range(1_200):
                await writer.send(decision(n, f"actor-{n % 7}"))
            await writer.flush()
            stats = writer.stats()
            assert (stats.events, stats.buffered_events, stats.buffered_bytes) == (1_200, 0, 0)
            assert (stats.packs == 1_200) == (mode == "single")
            await writer.send(decision(1_200, "actor-3"))  # close() writes this one
        found = await _events(kafka, topics)
        wanted: dict[str, list[str]] = defaultdict(list)
        for n in range(1_200):
            wanted[f"actor-{n % 7}"].append(f"d{n}")
        wanted["actor-3"].append("d1200")
        assert found == wanted

    asyncio.run(work())


def test_writer_records_are_packs_or_keyed_json(broker: str, topics_prefix: str) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        event: Event = outcome(1, "actor-1")
        async with EventWriter(kafka, topics) as writer:
            await writer.send(outcome(1, "actor-1"))
        async with EventWriter(kafka, topics, WriterSettings(mode="single")) as writer:
            await writer.send(outcome(1, "actor-1"))
        records = [r async for batch in read_records(kafka, topics.game_events) for r in batch]
        assert [(r.key, r.value[:1]) for r in records] == [(None, b"\x91"), (b"actor-1", b"{")]
        assert [decode_record(r.value) for r in records] == [[event], [event]]

    asyncio.run(work())


def test_writer_waits_for_room_and_says_so(broker: str, topics_prefix: str) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        small = WriterSettings(pack_bytes=1_000, buffer_bytes=1_000, linger_ms=50)
        async with EventWriter(kafka, topics, small) as writer:
            taken = [writer.send_nowait(decision(n)) for n in range(20)]
            assert taken[0] and not taken[-1]
            assert writer.stats().refused == taken.count(False)
            assert writer.stats().buffered_bytes <= 1_000
            for n in range(20, 60):
                await writer.send(decision(n))
                assert writer.stats().buffered_bytes <= 1_000
            assert writer.stats().waited_s > 0
        kept = [f"d{n}" for n in range(20) if taken[n]] + [f"d{n}" for n in range(20, 60)]
        assert (await _events(kafka, topics))["actor-0"] == kept

    asyncio.run(work())


def test_writer_refuses_a_large_event_by_its_field_and_takes_the_next(
    broker: str, topics_prefix: str
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        async with EventWriter(kafka, topics) as writer:
            with pytest.raises(ValueError, match=r"'actor-0' must be at most .* field observation"):
                await writer.send(decision(0, observation=b"x" * 600_000))
            await writer.send(decision(1))
        assert (await _events(kafka, topics))["actor-0"] == ["d1"]

    asyncio.run(work())


def test_writer_needs_its_topic_and_is_of_no_use_when_closed(
    broker: str, topics_prefix: str
) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix)
        writer = EventWriter(kafka, topics)
        with pytest.raises(WriteError, match="must be started"):
            await writer.send(decision(0))
        await writer.start()
        await writer.close()
        await writer.close()
        with pytest.raises(WriteError, match="not closed"):
            await writer.send(decision(0))

    asyncio.run(work())


def test_writer_says_when_no_broker_answers(topics_prefix: str) -> None:
    async def work() -> None:
        nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:1")
        with pytest.raises(WriteError, match="must exist on a broker that answers"):
            await EventWriter(nowhere, Topics(topics_prefix)).start()

    asyncio.run(work())


def test_blocking_writer_takes_events_from_threads(broker: str, topics_prefix: str) -> None:
    kafka, topics = asyncio.run(make_topics(broker, topics_prefix))
    small = WriterSettings(pack_bytes=2_000, buffer_bytes=4_000, linger_ms=2)
    with EventWriter.open(kafka, topics, small) as writer:

        def play(actor: int) -> None:
            for n in range(300):
                writer.send(decision(n, f"actor-{actor}"))

        threads = [threading.Thread(target=play, args=(actor,)) for actor in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.flush()
        stats = writer.stats()
        assert (stats.events, stats.buffered_events, stats.buffered_bytes) == (1_200, 0, 0)
        assert stats.waited_s > 0
        assert writer.send_nowait(decision(300, "actor-0"))
    with pytest.raises(WriteError, match="must not be closed"):
        writer.send(decision(0))
    found = asyncio.run(_events(kafka, topics))
    assert found.pop("actor-0") == [f"d{n}" for n in range(301)]
    assert list(found.values()) == [[f"d{n}" for n in range(300)]] * 3


@pytest.mark.slow
def test_writer_outlives_a_broker_that_is_killed(scratch: Path, topics_prefix: str) -> None:
    own = LocalBroker(scratch / "dying-broker")
    try:
        kafka, topics = asyncio.run(make_topics(own.start(), topics_prefix))
        with EventWriter.open(kafka, topics, WriterSettings(buffer_bytes=1_000_000)) as writer:
            n_sent = 0
            for _ in range(2):
                for _ in range(400):
                    writer.send(decision(n_sent, f"actor-{n_sent % 3}"))
                    n_sent += 1
                own.kill()
                for _ in range(400):
                    writer.send(decision(n_sent, f"actor-{n_sent % 3}"))
                    n_sent += 1
                assert writer.stats().buffered_events > 0
                own.start()
            eventually(lambda: writer.stats().buffered_events == 0, 60, "all is written")
        found = asyncio.run(_events(kafka, topics))
        for actor in range(3):
            ids = [f"d{n}" for n in range(n_sent) if n % 3 == actor]
            assert found[f"actor-{actor}"] == ids
    finally:
        own.wipe()


@pytest.mark.slow
def test_writer_close_says_how_much_it_could_not_write(scratch: Path, topics_prefix: str) -> None:
    own = LocalBroker(scratch / "dead-broker")
    try:
        kafka, topics = asyncio.run(make_topics(own.start(), topics_prefix))
        writer = EventWriter.open(kafka, topics)
        own.kill()
        for n in range(5):
            writer.send(decision(n))
        with pytest.raises(WriteError, match="5 events were not acknowledged"):
            writer.close(timeout_s=1)
    finally:
        own.wipe()
