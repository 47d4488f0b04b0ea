"""Takes a partition's records from the consumer and hands them on as batches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError

from streams.engine.part import Part
from streams.engine.records import Batch, Record
from streams.engine.settings import EngineError, EngineSettings
from streams.engine.source import cut

log = logging.getLogger("grindstone.engine")

_POLL_MS = 1_000
"""How long a feed waits for records before it looks around; records end the wait at once."""

Deliver = Callable[[Batch], Awaitable[None]]


class Feed:
    """One loop a partition, so that a busy one never makes another wait."""

    def __init__(self, settings: EngineSettings, consumer: Any, deliver: Deliver) -> None:
        self._settings = settings
        self._consumer = consumer
        self._deliver = deliver

    async def run(self, part: Part) -> None:
        """Deliver batches as long as the partition is ours and has room for one more.

        Raises:
            EngineError: input was lost before it could be folded.
            KafkaError: the broker refuses for good.
        """
        while part.live:
            await part.room.wait()
            if not part.rest:
                part.rest = await self._take(part)
                continue
            most = min(self._settings.batch_bytes, part.pace.max_bytes)
            records, part.rest = cut(part.rest, most)
            batch = Batch(part, records)
            part.pending.append(batch)
            part.update()
            await self._deliver(batch)

    async def _take(self, part: Part) -> list[Record]:
        """Return the next records of the partition, or none when it is better to look again."""
        tp = part.tp
        try:
            got = await self._consumer.getmany(
                tp, timeout_ms=_POLL_MS, max_records=self._settings.batch_records
            )
            raw = got.get(tp)
            if not raw or not part.ready:
                return []
            # It has just consumed, so position() does not suspend.
            kept = part.cursor.accept(raw, await self._consumer.position(tp))
            if kept is None:
                await self._ask_again(part, raw[0].offset)
                return []
        except IllegalStateError:  # not ours at this moment
            await asyncio.sleep(0.05)
            return []
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("%s[%d] fetch failed: %r", tp.topic, tp.partition, error)
            await asyncio.sleep(0.2)
            return []
        return kept

    async def _ask_again(self, part: Part, first: int) -> None:
        """Seek to the wanted offset, once it is clear that retention has not removed it."""
        cursor = part.cursor
        log.info("%s[%d] got %d, wants %d", part.tp.topic, part.partition, first, cursor.want)
        start = (await self._consumer.beginning_offsets([part.tp]))[part.tp]
        if 0 < cursor.want < start:
            msg = (
                f"{part.tp.topic}[{part.partition}] must still hold offset {cursor.want}, the next "
                f"to fold; got {start} as its first (retention removed input; set "
                f"accept_lost_input to go on at {first})"
            )
            if not self._settings.accept_lost_input:
                raise EngineError(msg)
            log.error(msg)
        if part.ready and part.cursor is cursor:
            self._consumer.seek(part.tp, cursor.want)
