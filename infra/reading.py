"""A read-committed look at topics without joining a group, for commands and the demo's page."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import ConsumerRecord

from schemas.kafka import KafkaSettings
from schemas.starting import start

POLL_MS = 500
EMPTY_POLLS = 3
FETCH_BYTES = 1_100_000
COORDINATOR_S = 15.0
ASK_AGAIN_S = 0.2


class Look:
    """One consumer that goes where it is told and commits nothing.

    Raises:
        KafkaConnectionError: from `start`, when no broker answers.
    """

    def __init__(self, kafka: KafkaSettings, client_id: str = "grindstone-look") -> None:
        self._consumer = AIOKafkaConsumer(
            **kafka.client(),
            client_id=client_id,
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        self._admin = AIOKafkaAdminClient(**kafka.client(), client_id=client_id)
        self._partitions: dict[str, list[TopicPartition]] = {}

    async def __aenter__(self) -> Self:
        try:
            await start(self._admin)
            await start(self._consumer)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def partitions(self, topic: str) -> list[TopicPartition]:
        """The topic's partitions in order; none when the topic does not exist."""
        if topic not in self._partitions:
            if topic not in await self._admin.list_topics():  # asking for it could create it
                return []
            described = await self._admin.describe_topics([topic])
            found = sorted(part["partition"] for part in described[0]["partitions"])
            self._partitions[topic] = [TopicPartition(topic, p) for p in found]
        return self._partitions[topic]

    async def group_offsets(self, group: str) -> dict[TopicPartition, int]:
        """What a consumer group has committed; nothing for a group that is not known.

        A broker that has just started knows no coordinator yet: it is asked again until it does.

        Raises:
            KafkaConnectionError: it still does not after `COORDINATOR_S`.
        """
        deadline = time.monotonic() + COORDINATOR_S
        while True:
            try:
                held = await self._admin.list_consumer_group_offsets(group)
                break
            except KafkaError as error:
                if not error.retriable:
                    raise
                if time.monotonic() >= deadline:
                    msg = f"no coordinator of group {group} within {COORDINATOR_S:g} s: {error}"
                    raise KafkaConnectionError(msg) from error
            await asyncio.sleep(ASK_AGAIN_S)
        return {part: meta.offset for part, meta in held.items() if meta.offset >= 0}

    async def ends(self, topic: str) -> dict[int, int]:
        """Partition -> the offset behind its last readable record."""
        return await self._offsets(topic, self._consumer.end_offsets)

    async def starts(self, topic: str) -> dict[int, int]:
        """Partition -> the offset of its first record."""
        return await self._offsets(topic, self._consumer.beginning_offsets)

    async def _offsets(self, topic: str, ask: Any) -> dict[int, int]:
        parts = await self.partitions(topic)
        found = await ask(parts) if parts else {}
        return {part.partition: offset for part, offset in found.items()}

    async def read(
        self, topic: str, start: dict[int, int], end: dict[int, int] | None = None
    ) -> AsyncIterator[ConsumerRecord]:
        """Records from `start` (partition -> offset) to `end`, or for ever without an `end`.

        Order holds within a partition. Markers of transactions are offsets without a record, so
        the last offsets before `end` may not come.
        """
        parts = [TopicPartition(topic, p) for p in sorted(start)]
        todo = [p for p in parts if end is None or start[p.partition] < end.get(p.partition, 0)]
        if not todo:
            return
        self._consumer.assign(todo)
        for part in todo:
            self._consumer.seek(part, start[part.partition])
        n_empty = 0
        while todo and (end is None or n_empty < EMPTY_POLLS):
            batches = await self._consumer.getmany(*todo, timeout_ms=POLL_MS)
            n_empty = 0 if batches else n_empty + 1
            for records in batches.values():
                for record in records:
                    if end is None or record.offset < end[record.partition]:
                        yield record
            if end is not None:
                todo = await self._unfinished(todo, end)

    async def _unfinished(
        self, parts: Sequence[TopicPartition], end: dict[int, int]
    ) -> list[TopicPartition]:
        left = [p for p in parts if await self._consumer.position(p) < end[p.partition]]
        if len(left) < len(parts):
            self._consumer.pause(*(p for p in parts if p not in left))
        return left

    async def follow(self, *topics: str) -> AsyncIterator[ConsumerRecord]:
        """Every record of several topics from their beginning, for ever."""
        parts = [part for topic in topics for part in await self.partitions(topic)]
        starts = await self._consumer.beginning_offsets(parts)
        self._consumer.assign(parts)
        for part in parts:
            self._consumer.seek(part, starts[part])
        while True:
            for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    yield record

    async def read_all(self, topic: str) -> AsyncIterator[ConsumerRecord]:
        """Every record that the topic holds now."""
        start, end = await self.starts(topic), await self.ends(topic)
        async for record in self.read(topic, start, end):
            yield record
