"""The ticker writes event time into every partition, from the clock it is given."""

from __future__ import annotations

import asyncio

import pytest

from schemas.codec import decode_record
from schemas.events import Tick
from schemas.kafka import KafkaSettings
from schemas.topics import Topics
from streams.reader import read_topic
from streams.ticker import TickerError, TickerSettings, TickerStats, run_ticker
from tests.streams.streamkit import make_topics


@pytest.mark.integration
def test_ticker_ticks_every_partition_by_the_given_clock(broker: str, topics_prefix: str) -> None:
    async def work() -> None:
        kafka, topics = await make_topics(broker, topics_prefix, 3)
        stop, waits = asyncio.Event(), [0.0]
        stats = TickerStats()

        async def wait(event: asyncio.Event, seconds: float) -> None:
            waits.append(seconds)
            await asyncio.sleep(0.01)  # the broker's turn
            if stats.records >= 15:
                event.set()

        def now_ms() -> int:
            return 50_000 + 100 * len(waits)

        done = await run_ticker(
            kafka,
            topics,
            TickerSettings(tick_ms=100, source="test"),
            now_ms=now_ms,
            stop=stop,
            stats=stats,
            wait=wait,
        )
        assert done is stats
        assert stats.records == 3 * stats.ticks - stats.skipped
        found: dict[int, list[int]] = {}
        async for at in read_topic(kafka, topics.game_events, decode_record):
            assert isinstance(at.row, Tick)
            assert at.row.source == "test"
            found.setdefault(at.partition, []).append(at.row.event_time_ms)
        assert sorted(found) == [0, 1, 2]
        for times in found.values():
            assert times == sorted(set(times))
            assert all(time_ms % 100 == 0 and time_ms >= 50_100 for time_ms in times)

    asyncio.run(work())


@pytest.mark.integration
def test_ticker_needs_its_topic(topics_prefix: str) -> None:
    async def work() -> None:
        nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:1")
        with pytest.raises(TickerError, match="must exist and take ticks"):
            await run_ticker(nowhere, Topics(topics_prefix), now_ms=lambda: 0, stop=asyncio.Event())

    asyncio.run(work())


def test_ticker_settings_name_the_field_that_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"ticker.tick_ms must be from 1 to .*; got 0"):
        TickerSettings(tick_ms=0)
