"""What the engine's tests share: fakes without a broker, and short runs against a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from aiokafka import AIOKafkaProducer, TopicPartition

from schemas.kafka import KafkaSettings
from schemas.topics import TopicSpec
from streams.admin import ensure_topics
from streams.engine import (
    Effects,
    EngineSettings,
    FoldFactory,
    Output,
    PartitionEngine,
    Record,
)
from streams.engine.commit import Parcel
from streams.engine.part import Part
from streams.engine.source import Cursor
from streams.engine.tasks import Tasks


class Fatal(Exception):
    """What a test's engine raises in place of ending the process."""


class Deaths:
    """Collects fatal ends."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.errors: list[BaseException | None] = []
        self.first = asyncio.Event()

    def __call__(self, reason: str, error: BaseException | None = None) -> NoReturn:
        self.reasons.append(reason)
        self.errors.append(error)
        self.first.set()
        raise Fatal(reason)


def app_settings(prefix: str = "t-", **more: Any) -> EngineSettings:
    """An application under one prefix."""
    fields: dict[str, Any] = {
        "app": f"{prefix}app",
        "source": f"{prefix}in",
        "changelog": f"{prefix}log",
        "outputs": (f"{prefix}out",),
        "session_timeout_ms": 6_000,
        "group_commit_ms": 100,
    }
    return EngineSettings(**{**fields, **more})


def record(
    offset: int, value: bytes = b"v", key: bytes | None = b"k", partition: int = 0
) -> Record:
    return Record(partition, offset, 0, key, value)


class FakeCommitter:
    """Records what is committed; each commit waits until the test lets it go, if it is held."""

    def __init__(self) -> None:
        self.committed: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.stopped = False

    async def start(self) -> None:
        """Nothing to fence."""

    async def stop(self) -> None:
        self.stopped = True

    def plan(self, effects: Effects, last: int) -> list[Parcel]:
        return [(("out", 0), last)]

    async def commit(self, parcels: list[Parcel]) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.committed.append(parcels[0][1])


class Script:
    """A fold made of one function of record and states; remembers what it saw."""

    def __init__(self, rule: Callable[[Record], Effects] | None = None) -> None:
        self.offsets: list[int] = []
        self._rule = rule

    def fold(self, records: Sequence[Record]) -> Effects:
        effects = Effects()
        for one in records:
            self.offsets.append(one.offset)
            if self._rule is not None:
                some = self._rule(one)
                effects.outputs += some.outputs
                effects.states.update(some.states)
        return effects


class FakeConsumer:
    """A partition's log behind the few calls that the engine makes; `answers` come first."""

    def __init__(self, log: Sequence[int] = (), start: int = 0) -> None:
        self.log = list(log)
        self.start = start
        self.at = 0
        self.seeks: list[int] = []
        self.answers: list[list[int] | Exception] = []
        self.more = asyncio.Event()

    async def getmany(
        self, tp: TopicPartition, timeout_ms: int, max_records: int
    ) -> Mapping[TopicPartition, list[Record]]:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            offsets = answer
        else:
            offsets = [o for o in self.log if o >= self.at][:max_records]
        if not offsets:
            await self.more.wait()
            return {}
        self.at = offsets[-1] + 1
        return {tp: [record(o, partition=tp.partition) for o in offsets]}

    async def position(self, tp: TopicPartition) -> int:
        return self.at

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self.start)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self.log[-1] + 1 if self.log else 0)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.seeks.append(offset)
        self.at = offset


def ready_part(fold: Script, committer: FakeCommitter, want: int = 0) -> Part:
    """A recovered partition 0 that wants `want` next."""
    part = Part("in", 0, batches_out=2)
    part.fold = fold
    part.committer = committer  # type: ignore[assignment]
    part.table.last = part.committed = want - 1
    part.go()
    assert isinstance(part.cursor, Cursor)
    return part


async def make_topics(broker: str, app: EngineSettings, partitions: int = 2) -> KafkaSettings:
    """Create the application's topics and return how to reach them."""
    kafka = KafkaSettings(bootstrap_servers=broker)
    names = {app.source, *app.outputs}
    specs = [TopicSpec(name=name, partitions=partitions, cleanup="delete") for name in names]
    specs.append(TopicSpec(name=app.changelog, partitions=partitions, cleanup="compact"))
    await ensure_topics(kafka, specs)
    return kafka


async def produce(broker: str, topic: str, values: Sequence[bytes], partition: int = 0) -> None:
    """Write records with key ``k``."""
    async with AIOKafkaProducer(
        bootstrap_servers=broker, enable_idempotence=True, max_request_size=2 << 20
    ) as producer:
        sent = [await producer.send(topic, value, b"k", partition) for value in values]
        await asyncio.gather(*sent)


@asynccontextmanager
async def running(
    app: EngineSettings, kafka: KafkaSettings, make_fold: FoldFactory, deaths: Deaths
) -> AsyncIterator[PartitionEngine]:
    """An engine that is pumped inside the block and stopped behind it."""
    engine = PartitionEngine(app, kafka, make_fold, on_fatal=deaths)
    stopping = _stopped_whole(engine._tasks)
    await engine.start()
    pump = asyncio.create_task(engine.pump())
    try:
        yield engine
    finally:
        await engine.stop()
        await pump
        if stopping:
            await asyncio.wait(stopping, timeout=2.0)  # a commit that failed is waited for in vain


def _stopped_whole(tasks: Tasks) -> list[asyncio.Future[Any]]:
    """Return what is stopped from now on; it goes on when the engine no longer waits for it.

    The engine gives each client part of a second to stop, for its process ends then. That of the
    tests goes on: a connection cut off on a loaded machine would be found open in a later test.
    """
    stopping: list[asyncio.Future[Any]] = []
    within = tasks.within

    async def shielded(work: Awaitable[Any], seconds: float) -> None:
        stopping.append(asyncio.ensure_future(work))
        await within(asyncio.shield(stopping[-1]), seconds)

    tasks.within = shielded  # type: ignore[method-assign]
    return stopping


def copy_rule(topic: str) -> Callable[[Record], Effects]:
    """Write each value on and keep it as the state of its offset."""

    def rule(one: Record) -> Effects:
        key = b"%d" % one.offset
        return Effects([Output(topic, one.value, one.key)], {key: one.value})

    return rule
