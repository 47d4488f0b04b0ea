"""The engine's side work: group offsets and lag, for people who watch; never fatal."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from streams.engine.part import Part
from streams.engine.settings import EngineError, EngineSettings

log = logging.getLogger("grindstone.engine")

_ANSWER_S = 5.0


class Housekeeping:
    """What fails here is tried again a second later."""

    def __init__(self, settings: EngineSettings, consumer: Any, parts: dict[int, Part]) -> None:
        self._app = settings.app
        self._consumer = consumer
        self._parts = parts
        self._ends: dict[int, int] = {}
        self._told: dict[int, int] = {}

    def lag(self) -> dict[int, int]:
        """Return how far each partition is behind its end, as of the last look."""
        return {
            part.partition: max(0, self._ends[part.partition] - part.position)
            for part in self._recovered()
            if part.partition in self._ends
        }

    async def turn(self) -> None:
        """Look at the ends of the partitions and tell the group where we are.

        Raises:
            EngineError: the group refuses us, which no feed would see.
        """
        try:
            async with asyncio.timeout(_ANSWER_S):
                if not self._parts:
                    await self._ask_group()
                tps = [part.tp for part in self._recovered()]
                if tps:
                    ends = await self._consumer.end_offsets(tps)
                    self._ends = {tp.partition: end for tp, end in ends.items()}
                    await self.commit_group()
        except (KafkaError, TimeoutError) as error:
            log.debug("%s: offsets for the group not kept: %r", self._app, error)

    async def commit_group(self) -> None:
        """Commit durable positions that the group does not know yet.

        Raises:
            KafkaError: the coordinator is away or a rebalance is under way.
        """
        now = {part.partition: (part.tp, part.position) for part in self._recovered()}
        self._told = {p: at for p, at in self._told.items() if p in now}
        news = {
            tp: OffsetAndMetadata(at, "")
            for p, (tp, at) in now.items()
            if at > 0 and self._told.get(p) != at
        }
        if news:
            await self._consumer.commit(news)
            self._told.update({tp.partition: offset.offset for tp, offset in news.items()})

    async def _ask_group(self) -> None:
        """Let the consumer raise what keeps it from joining; a worker without parts has no feed."""
        try:
            await self._consumer.getmany(timeout_ms=0)
        except KafkaError as error:
            if error.retriable or isinstance(error, (IllegalStateError, ConsumerStoppedError)):
                raise
            msg = f"group {self._app} must take us in; got {error!r}"
            raise EngineError(msg) from error

    def _recovered(self) -> list[Part]:
        return [part for part in self._parts.values() if part.fold is not None]
