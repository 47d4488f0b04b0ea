"""One transaction a batch, by the partition's own fenced producer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiokafka.producer.sender
from aiokafka import AIOKafkaProducer

from schemas.kafka import KafkaSettings
from schemas.starting import start
from streams.compression import use_fast_lz4
from streams.engine.records import OFFSET_KEY, Effects, Output
from streams.engine.settings import EngineError, EngineSettings
from streams.engine.table import pack_offset

# aiokafka waits this long when the broker still writes the markers of the transaction before; its
# 20 ms allow a lone producer 60 transactions a second, 2 ms allow 583.
aiokafka.producer.sender.BACKOFF_OVERRIDE = 0.002

Target = tuple[str, int]
Pair = tuple[bytes | None, bytes | None]
"""Key and value of a record to write."""
Parcel = tuple[Target, Any]
"""A filled record batch and the topic partition it goes to."""
_NO_HEADERS: list[tuple[str, bytes]] = []


class Committer:
    """Writes the batches of one partition. Starting it fences every earlier owner."""

    def __init__(self, kafka: KafkaSettings, settings: EngineSettings, partition: int) -> None:
        self._settings = settings
        self._partition = partition
        self._counts: dict[str, int] = {}
        self._targets: dict[tuple[str, int | None], Target] = {}
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
        await start(self._producer)
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
        log = (self._settings.changelog, self._partition)
        self._check_states(log[0], effects.states)
        writes: dict[Target, list[Pair]] = {}
        for output in effects.outputs:
            target = self._targets.get((output.topic, output.partition)) or self._target(output)
            if target in writes:
                writes[target].append((output.key, output.value))
            else:
                writes[target] = [(output.key, output.value)]
        states = writes.setdefault(log, [])
        states += effects.states.items()
        states.append((OFFSET_KEY, pack_offset(last)))
        filled = {target: self._fill(target, pairs, now_ms) for target, pairs in writes.items()}
        # The first batch of each partition before any second one: all partitions are then added
        # to the transaction by one request.
        firsts = [(target, batches[0]) for target, batches in filled.items()]
        return firsts + [(t, b) for t, batches in filled.items() for b in batches[1:]]

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
        """Return where an output goes, and keep it: outputs name few places."""
        count = self._counts.get(output.topic)
        if count is None:
            msg = (
                f"an output's topic must be one of {self._settings.outputs}; got {output.topic!r} "
                "(name it in EngineSettings.outputs)"
            )
            raise EngineError(msg)
        partition = self._partition % count if output.partition is None else output.partition
        if not 0 <= partition < count:
            msg = (
                f"an output's partition of {output.topic} must be from 0 to {count - 1}; "
                f"got {partition}"
            )
            raise EngineError(msg)
        target = self._targets[output.topic, output.partition] = (output.topic, partition)
        return target

    def _check_states(self, topic: str, states: Mapping[bytes, bytes | None]) -> None:
        limit = self._settings.max_state_bytes
        for key, value in states.items():
            if value is not None and len(value) > limit:
                raise _too_large(topic, key, len(value), limit, "max_state_bytes")
        if OFFSET_KEY in states:
            msg = "a fold must leave the key \\0offset to the engine; got it among its states"
            raise EngineError(msg)

    def _fill(self, target: Target, pairs: list[Pair], now_ms: int) -> list[Any]:
        """Return record batches that hold the pairs; a batch takes its first one of any size.

        The builder below aiokafka's own is called: its copy of each call costs as much again.
        """
        limit = self._settings.max_record_bytes
        batch = self._producer.create_batch()
        batches, append, n = [batch], batch._builder.append, 0
        for key, value in pairs:
            size = len(key or b"") + len(value or b"")
            if size > limit:
                raise _too_large(target[0], key, size, limit, "max_record_bytes")
            if append(n, now_ms, key, value, _NO_HEADERS) is None:
                batch._relative_offset = n
                batch.close()
                batch = self._producer.create_batch()
                batches.append(batch)
                append, n = batch._builder.append, 0
                append(n, now_ms, key, value, _NO_HEADERS)
            n += 1
        batch._relative_offset = n  # its count of records
        return batches


def _too_large(topic: str, key: bytes | None, size: int, limit: int, name: str) -> EngineError:
    msg = (
        f"a record for {topic} must be at most {limit} bytes; got {size} for key {key!r} "
        f"(raise EngineSettings.{name} with the broker's message.max.bytes)"
    )
    return EngineError(msg)
