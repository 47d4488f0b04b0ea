"""One transaction a batch, by the partition's own fenced producer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiokafka.producer.sender
from aiokafka import AIOKafkaProducer

from schemas.kafka import KafkaSettings
from streams.compression import use_fast_lz4
from streams.engine.records import OFFSET_KEY, Effects, Output
from streams.engine.settings import EngineError, EngineSettings
from streams.engine.table import pack_offset

# aiokafka waits this long when the broker still writes the markers of the transaction before; its
# 20 ms allow a lone producer 60 transactions a second, 2 ms allow 583.
aiokafka.producer.sender.BACKOFF_OVERRIDE = 0.002

Target = tuple[str, int]
Parcel = tuple[Target, Any]
"""A filled record batch and the topic partition it goes to."""


class Committer:
    """Writes the batches of one partition. Starting it fences every earlier owner."""

    def __init__(self, kafka: KafkaSettings, settings: EngineSettings, partition: int) -> None:
        self._settings = settings
        self._partition = partition
        self._counts: dict[str, int] = {}
        use_fast_lz4()
        self._producer = AIOKafkaProducer(
            **kafka.client(),
            transactional_id=f"{settings.app}-{partition}",
            transaction_timeout_ms=settings.transaction_timeout_ms,
            request_timeout_ms=settings.request_timeout_ms,
            max_batch_size=settings.produce_batch_bytes,
            compression_type=settings.compression,
        )

    async def start(self) -> None:
        """Fence the previous owner, whose open transaction is aborted, and look the topics up.

        Raises:
            EngineError: the changelog has too few partitions.
        """
        await self._producer.start()
        for topic in (self._settings.changelog, *self._settings.outputs):
            self._counts[topic] = len(await self._producer.partitions_for(topic))
        n = self._counts[self._settings.changelog]
        if self._partition >= n:
            msg = (
                f"{self._settings.changelog} must have as many partitions as "
                f"{self._settings.source}; got {n}"
            )
            raise EngineError(msg)

    async def stop(self) -> None:
        """Close the connections; an open transaction is left to the next owner to abort."""
        await self._producer.stop()

    def plan(self, effects: Effects, last: int) -> list[Parcel]:
        """Return the encoded writes of a batch, in the order in which they must be sent.

        Raises:
            EngineError: a record or state is too large, or goes where the engine may not write.
        """
        now_ms = int(time.time() * 1000)
        builders: dict[Target, list[Any]] = {}
        for output in effects.outputs:
            self._add(builders, self._target(output), output.key, output.value, now_ms)
        log = (self._settings.changelog, self._partition)
        limit = self._settings.max_state_bytes
        for key, value in effects.states.items():
            if value is not None and len(value) > limit:
                raise _too_large(log[0], key, len(value), limit, "max_state_bytes")
            if key == OFFSET_KEY:
                msg = "a fold must leave the key \\0offset to the engine; got it among its states"
                raise EngineError(msg)
            self._add(builders, log, key, value, now_ms)
        self._add(builders, log, OFFSET_KEY, pack_offset(last), now_ms)
        # The first batch of each partition before any second one: all partitions are then added
        # to the transaction by one request.
        firsts = [(target, batches[0]) for target, batches in builders.items()]
        return firsts + [(t, b) for t, batches in builders.items() for b in batches[1:]]

    async def commit(self, parcels: list[Parcel]) -> None:
        """Write all of it in one transaction.

        Raises:
            Exception: whatever the producer raised. The process must end: what the broker holds
                is unknown, and only a new owner finds out.
        """
        async with asyncio.timeout(self._settings.commit_limit_ms / 1000):
            producer = self._producer
            await producer.begin_transaction()
            sent = [
                await producer.send_batch(batch, topic, partition=partition)
                for (topic, partition), batch in parcels
            ]
            for future in sent:  # commit_transaction() says OK although a record of it failed
                await future
            await producer.commit_transaction()

    def _target(self, output: Output) -> Target:
        count = self._counts.get(output.topic)
        if count is None:
            msg = (
                f"an output's topic must be one of {self._settings.outputs}; got {output.topic!r} "
                "(name it in EngineSettings.outputs)"
            )
            raise EngineError(msg)
        if output.partition is None:
            return output.topic, self._partition % count
        if not 0 <= output.partition < count:
            msg = (
                f"an output's partition of {output.topic} must be from 0 to {count - 1}; "
                f"got {output.partition}"
            )
            raise EngineError(msg)
        return output.topic, output.partition

    def _add(
        self,
        builders: dict[Target, list[Any]],
        target: Target,
        key: bytes | None,
        value: bytes | None,
        now_ms: int,
    ) -> None:
        size = len(key or b"") + len(value or b"")
        if size > self._settings.max_record_bytes:
            limit = self._settings.max_record_bytes
            raise _too_large(target[0], key, size, limit, "max_record_bytes")
        batches = builders.get(target)
        if batches is None:
            batches = builders[target] = [self._producer.create_batch()]
        if batches[-1].append(timestamp=now_ms, key=key, value=value) is None:
            batches.append(self._producer.create_batch())
            batches[-1].append(timestamp=now_ms, key=key, value=value)  # a first one always fits


def _too_large(topic: str, key: bytes | None, size: int, limit: int, name: str) -> EngineError:
    msg = (
        f"a record for {topic} must be at most {limit} bytes; got {size} for key {key!r} "
        f"(raise EngineSettings.{name} with the broker's message.max.bytes)"
    )
    return EngineError(msg)
