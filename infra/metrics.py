"""Writes what a process measured to the `metrics` topic, and never gets in its way."""

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from infra import logs
from schemas.kafka import KafkaSettings
from schemas.records import Metric, encode_metric
from schemas.starting import start
from schemas.topics import Topics

log = logs.get(__name__)


class MetricWriter:
    """Offers are sent in the background, in order; what waits too long is merged into the next."""

    def __init__(self, kafka: KafkaSettings, topics: Topics, process: str) -> None:
        self._kafka = kafka
        self._topic = topics.metrics
        self._process = process
        self._producer: AIOKafkaProducer | None = None
        self._sending: asyncio.Task[None] | None = None
        self._waiting: dict[str, float] = {}
        self._labels: dict[str, str] = {}

    def offer(self, values: Mapping[str, float], labels: Mapping[str, str] | None = None) -> None:
        """Sends numbers now, or with the next ones while others are on their way.

        Needs a running loop.
        """
        self._waiting.update(values)
        self._labels.update(labels or {})
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        try:
            if self._producer is None:
                self._producer = await self._connected()
            while self._waiting:
                metric = Metric(
                    process=self._process,
                    time_ms=time.time_ns() // 1_000_000,
                    values=self._waiting,
                    labels=self._labels,
                )
                self._waiting, self._labels = {}, {}
                key = self._process.encode()
                await self._producer.send_and_wait(self._topic, encode_metric(metric), key=key)
        except KafkaError as error:  # numbers are worth no more than their moment
            log.debug("metric not written", error=str(error))

    async def _connected(self) -> AIOKafkaProducer:
        client_id = f"grindstone-metrics-{self._process}"
        producer = AIOKafkaProducer(**self._kafka.client(), client_id=client_id)
        try:
            await start(producer)
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def close(self) -> None:
        """Ends the background work."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        if self._producer is not None:
            await self._producer.stop()
