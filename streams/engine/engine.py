"""The partition engine: source, table and commit of every partition that this worker owns."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer

from schemas.kafka import KafkaSettings
from schemas.starting import start
from streams.engine.commit import Parcel
from streams.engine.fatal import die
from streams.engine.feed import Deliver, Feed
from streams.engine.housekeeping import Housekeeping
from streams.engine.lean import Lean
from streams.engine.owner import Owner
from streams.engine.part import Part
from streams.engine.records import Batch, FoldFactory
from streams.engine.settings import EngineError, EngineSettings
from streams.engine.stats import EngineStats, Meter
from streams.engine.tasks import OnFatal, Tasks

log = logging.getLogger("grindstone.engine")


class PartitionEngine:
    """Folds a topic: each batch's outputs, states and offset in one fenced transaction.

    Usage: `start`, then `pump` until `stop` is called from elsewhere. Batches go to `deliver` (a
    Faust channel's ``put``), whose reader calls `process`; by default straight to `process`.

    Args:
        settings: the application.
        kafka: the brokers.
        make_fold: called for each partition that is taken over, with its recovered table.
        deliver: where batches go.
        on_stats: called about once a second.
        on_fatal: must not return; by default the process ends with a line on stderr.
    """

    def __init__(
        self,
        settings: EngineSettings,
        kafka: KafkaSettings,
        make_fold: FoldFactory,
        *,
        deliver: Deliver | None = None,
        on_stats: Callable[[EngineStats], None] | None = None,
        on_fatal: OnFatal = die,
    ) -> None:
        self.settings = settings
        self._kafka = kafka
        self._make_fold = make_fold
        self._deliver = deliver or self.process
        self._on_stats = on_stats
        self._tasks = Tasks(settings.app, on_fatal)
        self._meter = Meter()
        self._stopped = asyncio.Event()
        self._consumer: Any = None
        self._owner: Owner | None = None
        self._keeper: Housekeeping | None = None

    async def start(self) -> None:
        """Join the group; partitions are recovered in the background.

        Raises:
            EngineError: a topic does not exist.
            KafkaError: no broker answers or lets us in.
        """
        consumer = AIOKafkaConsumer(**self._kafka.client(), **_consumer_settings(self.settings))
        try:
            await start(consumer)
            self._check_topics(await consumer.topics())
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        feed = Feed(self.settings, consumer, self._deliver)
        self._owner = Owner(
            self.settings, self._kafka, self._make_fold, self._tasks, consumer, feed
        )
        self._keeper = Housekeeping(self.settings, consumer, self._owner.parts)
        consumer.subscribe([self.settings.source], listener=self._owner)

    def _check_topics(self, existing: set[str]) -> None:
        """Refuse to start without them: the broker might make them with other partitions."""
        s = self.settings
        for topic in (s.source, s.changelog, *s.outputs):
            if topic not in existing:
                msg = f"topic {topic} must exist before {s.app} starts; got none of that name"
                raise EngineError(msg)

    async def pump(self) -> None:
        """Keep the group's offsets and tell the statistics until `stop` is called."""
        while not self._stopped.is_set():
            try:
                async with asyncio.timeout(self.settings.group_commit_ms / 1000):
                    await self._stopped.wait()
            except TimeoutError:
                await self._look_around()

    async def _look_around(self) -> None:
        try:
            if self._keeper is not None and not self._tasks.stopping:
                await self._keeper.turn()
            if self._on_stats is not None:
                self._on_stats(self.stats())
        except Exception as error:
            if not self._tasks.stopping:
                self._tasks.fatal(f"{self.settings.app} cannot go on", error)

    async def process(self, batch: Batch) -> None:
        """Fold a batch and start its commit; batches of a partition must come in order."""
        part = batch.part
        if batch.cancelled or self._tasks.stopping or not isinstance(part, Part):
            return
        # No await in here: the order of the folds is the order of the commits.
        started = time.perf_counter()
        try:
            effects, parcels = self._fold(part, batch)
        except Exception as error:
            app = self.settings.app
            self._tasks.fatal(f"{app}[{part.partition}] could not fold {batch!r}", error)
        took = self._warn_slow("fold", part, started)
        self._meter.fold_s += took
        part.pace.folded(took, full=bool(part.rest))
        counts = (len(batch.records), len(effects.outputs))
        part.in_flight += 1
        part.tail = self._tasks.spawn(
            self._commit(part, parcels, part.table.last, part.tail, started, counts)
        )
        part.update()

    async def stop(self) -> None:
        """Take no more batches, finish the commits in flight, leave the group; never raises."""
        if self._tasks.stopping:
            await self._stopped.wait()
            return
        self._tasks.stopping = True
        tasks = self._tasks
        if self._owner is not None and self._keeper is not None:
            self._owner.quiesce()
            await tasks.within(self._owner.idle(), self.settings.stop_timeout_ms / 1000)
            await tasks.within(self._keeper.commit_group(), 0.5)
            await tasks.within(self._owner.close(), 0.7)
            await tasks.within(self._consumer.stop(), 0.7)
        await tasks.cancel_all()
        self._stopped.set()

    def stats(self) -> EngineStats:
        """Return counts and lag; cheap, for any number of calls."""
        parts = {} if self._owner is None else self._owner.parts
        return EngineStats(
            app=self.settings.app,
            records=self._meter.records,
            batches=self._meter.batches,
            outputs=self._meter.outputs,
            commit_p50_ms=self._meter.quantile_ms(0.5),
            commit_p95_ms=self._meter.quantile_ms(0.95),
            fold_ms=round(self._meter.fold_s * 1000, 1),
            partitions=tuple(sorted(p for p, part in parts.items() if part.ready)),
            recovering=tuple(sorted(p for p, part in parts.items() if part.fold is None)),
            recovered_records=sum(part.recovered_records for part in parts.values()),
            keys=sum(len(part.table.view) for part in parts.values()),
            lag={} if self._keeper is None else self._keeper.lag(),
        )

    def _fold(self, part: Part, batch: Batch) -> tuple[Any, list[Parcel]]:
        first, last = batch.records[0].offset, batch.records[-1].offset
        in_order = part.pending and part.pending.popleft() is batch and first > part.table.last
        if not in_order or part.fold is None or part.committer is None:
            msg = f"{batch!r} must follow on offset {part.table.last} in order"
            raise EngineError(msg)
        effects = part.fold.fold(batch.records)
        parcels = part.committer.plan(effects, last)
        part.table.apply(effects.states)
        part.table.last = last
        return effects, parcels

    async def _commit(
        self,
        part: Part,
        parcels: list[Parcel],
        last: int,
        previous: asyncio.Task[None] | None,
        started: float,
        counts: tuple[int, int],
    ) -> None:
        if previous is not None:
            await previous
        if part.committer is None:
            msg = "a commit must come after the recovery"
            raise EngineError(msg)
        begun = time.perf_counter()
        await part.committer.commit(parcels)
        self._warn_slow("commit", part, begun)
        part.committed = last
        part.in_flight -= 1
        part.update()
        self._meter.committed(*counts, time.perf_counter() - started)

    def _warn_slow(self, what: str, part: Part, since: float) -> float:
        took = time.perf_counter() - since
        if took * 1000 > self.settings.slow_ms:
            log.warning("%s[%d] slow %s: %.1f s", self.settings.app, part.partition, what, took)
        return took


def _consumer_settings(settings: EngineSettings) -> dict[str, Any]:
    return {
        "group_id": settings.app,
        "group_instance_id": settings.instance_id,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "session_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": settings.heartbeat_ms,
        "max_poll_interval_ms": max(300_000, settings.rebalance_timeout_ms),
        "rebalance_timeout_ms": settings.rebalance_timeout_ms,
        "request_timeout_ms": settings.request_timeout_ms,
        "fetch_max_wait_ms": settings.fetch_wait_ms,
        "fetch_min_bytes": settings.fetch_min_bytes,
        "max_partition_fetch_bytes": settings.partition_fetch_bytes,
        "key_deserializer": Lean(),
    }
