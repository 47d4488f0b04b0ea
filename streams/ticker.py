"""The ticker: event time goes on in every partition, even where nobody acts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.codec import encode_event
from schemas.events import Tick
from schemas.kafka import KafkaSettings
from schemas.starting import start
from schemas.topics import Topics


class TickerError(RuntimeError):
    """Ticks cannot be written: the topic is missing, or Kafka refuses them."""


class TickerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How often ticks are written, and in whose name.

    Raises:
        ValueError: ``tick_ms`` is out of its range.
    """

    tick_ms: int = 100
    source: str = "ticker"

    def __post_init__(self) -> None:
        if not 1 <= self.tick_ms <= 3_600_000:
            msg = f"ticker.tick_ms must be from 1 to 3,600,000; got {self.tick_ms}"
            raise ValueError(msg)


class TickerStats(msgspec.Struct):
    """What a ticker has done so far."""

    ticks: int = 0
    """Rounds in which every partition was looked at."""
    records: int = 0
    skipped: int = 0
    """Ticks left out because the partition's last one was not acknowledged yet."""


async def run_ticker(
    kafka: KafkaSettings,
    topics: Topics,
    settings: TickerSettings | None = None,
    *,
    now_ms: Callable[[], int],
    stop: asyncio.Event,
    stats: TickerStats | None = None,
    wait: Callable[[asyncio.Event, float], Awaitable[object]] | None = None,
) -> TickerStats:
    """Write a `Tick` into every partition of ``game-events`` each ``tick_ms`` until `stop` is set.

    While a broker is away ticks are skipped, not queued: an old tick says nothing that the next
    one does not. A tick is worth no more than its time, so two tickers do no harm.

    Args:
        kafka: the brokers.
        topics: the topic names.
        settings: how often; 100 ms when not given.
        now_ms: the event clock, UTC milliseconds.
        stop: ends the ticker.
        stats: is kept up to date, for whoever shows it.
        wait: waits for the event, so many seconds at most; tests hand in their own.

    Raises:
        TickerError: the topic does not exist or refuses ticks.
    """
    settings, stats = settings or TickerSettings(), stats or TickerStats()
    producer = AIOKafkaProducer(
        **kafka.client(), client_id="grindstone-ticker", enable_idempotence=True
    )
    try:
        await start(producer)
        partitions = sorted(await producer.partitions_for(topics.game_events))
        ticker = _Ticker(producer, topics.game_events, partitions, stats)
        period_s = settings.tick_ms / 1000
        while not stop.is_set():
            await ticker.tick(Tick(event_time_ms=now_ms(), source=settings.source))
            late_s = (now_ms() % settings.tick_ms) / 1000
            await (wait or _wait)(stop, period_s - late_s)
    except KafkaError as error:
        msg = f"topic {topics.game_events} must exist and take ticks; got {error!r}"
        raise TickerError(msg) from error
    finally:
        await producer.stop()
    return stats


class _Ticker:
    """Sends ticks, one in flight a partition."""

    def __init__(
        self, producer: AIOKafkaProducer, topic: str, partitions: list[int], stats: TickerStats
    ) -> None:
        self._producer, self._topic, self._stats = producer, topic, stats
        self._partitions = partitions
        self._sent: dict[int, asyncio.Future[object]] = {}

    async def tick(self, tick: Tick) -> None:
        value = encode_event(tick)
        self._stats.ticks += 1
        for partition in self._partitions:
            last = self._sent.get(partition)
            if last is not None:
                if not last.done():
                    self._stats.skipped += 1
                    continue
                last.result()  # refused: ends the ticker
            # Nothing else is in this partition's buffer, so this does not wait.
            self._sent[partition] = await self._producer.send(
                self._topic, value, partition=partition
            )
            self._stats.records += 1


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
