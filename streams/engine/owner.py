"""Which partitions are ours: recovery, rebalances, and letting go."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Iterable
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition

from schemas.kafka import KafkaSettings
from streams.engine.commit import Committer
from streams.engine.feed import Feed
from streams.engine.pace import Pace
from streams.engine.part import Part
from streams.engine.records import FoldFactory, PartitionFold
from streams.engine.settings import EngineError, EngineSettings
from streams.engine.table import Recovery
from streams.engine.tasks import Tasks, all_of, cancel

log = logging.getLogger("grindstone.engine")

_PARALLEL_RECOVERIES = 4
_CLOSE_S = 5.0


class Owner(ConsumerRebalanceListener):  # type: ignore[misc]
    """Listens to the group. aiokafka sends no heartbeat while a callback runs, so they are short.

    State and producer of partitions that stay survive a rebalance: any other owner in between
    would have fenced us.
    """

    def __init__(
        self,
        settings: EngineSettings,
        kafka: KafkaSettings,
        make_fold: FoldFactory,
        tasks: Tasks,
        consumer: Any,
        feed: Feed,
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._make_fold = make_fold
        self._tasks = tasks
        self._consumer = consumer
        self._feed = feed
        self.parts: dict[int, Part] = {}
        self._held: set[int] = set()
        self._closing: dict[int, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_PARALLEL_RECOVERIES)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Give up what is not folded, wait for what is being committed."""
        started = time.monotonic()
        self._held = set()
        parts = list(self.parts.values())
        for part in parts:
            part.quiesce()
        limit = self._settings.rebalance_timeout_ms / 1000 * 0.7
        try:
            async with asyncio.timeout(limit):
                await all_of(p.idle.wait() for p in parts)
        except TimeoutError as error:
            app = self._settings.app
            self._tasks.fatal(f"{app} still had a commit open {limit:.0f} s into a revoke", error)
        log.info(
            "%s revoked %s, quiet in %.0f ms",
            self._settings.app,
            sorted(tp.partition for tp in revoked),
            (time.monotonic() - started) * 1000,
        )

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Keep the parts that stay, let go of those that left, recover new ones."""
        if self._tasks.stopping:
            return
        self._held = {tp.partition for tp in assigned}
        for partition in [p for p in self.parts if p not in self._held]:
            self._let_go(self.parts.pop(partition))
        new = sorted(self._held - set(self.parts))
        for part in self.parts.values():
            if part.fold is not None:
                self._go(part)
        for partition in new:
            s = self._settings
            pace = Pace(s.batch_bytes, s.session_timeout_ms)
            part = Part(s.source, partition, s.batches_out, pace)
            self.parts[partition] = part
            part.recovering = self._tasks.spawn(self._recover(part))
        log.info("%s assigned %s, new %s", self._settings.app, sorted(self._held), new)

    def quiesce(self) -> None:
        """Take no more batches of any partition, for good."""
        for part in self.parts.values():
            part.quiesce()
            cancel(part.feeding, part.recovering)

    async def idle(self) -> None:
        """Wait until no commit is in flight."""
        await all_of(part.idle.wait() for part in self.parts.values())

    async def close(self) -> None:
        """Close the producers."""
        await all_of(p.committer.stop() for p in self.parts.values() if p.committer is not None)

    def _let_go(self, part: Part) -> None:
        part.live = False
        part.quiesce()
        cancel(part.feeding, part.recovering)
        self._closing[part.partition] = self._tasks.spawn(self._close(part))

    async def _close(self, part: Part) -> None:
        tasks = [t for t in (part.feeding, part.recovering) if t is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        await part.idle.wait()
        if part.committer is not None:
            await self._tasks.within(part.committer.stop(), _CLOSE_S)

    async def _recover(self, part: Part) -> None:
        before = self._closing.pop(part.partition, None)
        if before is not None:
            await before  # else its producer could still be starting, and fence ours
        async with self._slots:
            part.committer = Committer(self._kafka, self._settings, part.partition)
            await part.committer.start()
            recovery = Recovery(self._kafka, self._settings, part.partition)
            part.table = await recovery.run()
        await self._check_source(part)
        part.committed = part.table.last
        part.recovered_records = recovery.records
        part.fold = self._make(part)
        log.info(
            "%s[%d] recovered %d keys from %d records in %.2f s, next offset %d",
            self._settings.app,
            part.partition,
            len(part.table.view),
            recovery.records,
            recovery.seconds,
            part.table.last + 1,
        )
        self._go(part)

    def _make(self, part: Part) -> PartitionFold:
        """Return the fold; what it makes of the table stays, so nothing is to be collected."""
        gc.disable()
        try:
            return self._make_fold(part.partition, part.table.view)
        finally:
            gc.enable()

    async def _check_source(self, part: Part) -> None:
        """Refuse a source that is not the one that the states were folded from.

        Raises:
            EngineError: it ends before the offset that the states include.
        """
        last = part.table.last
        end = (await self._consumer.end_offsets([part.tp]))[part.tp]
        if end <= last:
            msg = (
                f"{part.tp.topic}[{part.partition}] must reach beyond offset {last}, which the "
                f"states in {self._settings.changelog} include; got {end} as its end (was the "
                "topic made anew? then delete the changelog too)"
            )
            raise EngineError(msg)

    def _go(self, part: Part) -> None:
        if part.live and part.partition in self._held and not self._tasks.stopping:
            self._consumer.seek(part.tp, part.go())
            if part.feeding is None:
                part.feeding = self._tasks.spawn(self._feed.run(part))
