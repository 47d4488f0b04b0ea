from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    ProducerFenced,
    TopicAuthorizationFailedError,
)

from schemas.kafka import KafkaSettings
from streams.engine import EXIT_FATAL, EXIT_FENCED, EngineError, PartitionEngine, Record
from streams.engine.fatal import is_fenced
from streams.engine.feed import Feed
from streams.engine.housekeeping import Housekeeping
from streams.engine.part import Part
from streams.engine.records import Batch, Effects
from tests.streams.enginekit import (
    Deaths,
    FakeCommitter,
    FakeConsumer,
    Fatal,
    Script,
    app_settings,
    ready_part,
    record,
)


def an_engine(deaths: Deaths) -> PartitionEngine:
    def no_fold(partition: int, table: object) -> Script:
        return Script()

    return PartitionEngine(app_settings(), KafkaSettings(), no_fold, on_fatal=deaths)


def a_batch(part: Part, *offsets: int) -> Batch:
    batch = Batch(part, [record(o) for o in offsets])
    part.pending.append(batch)
    return batch


def test_process_commits_in_the_order_of_the_folds() -> None:
    async def main() -> None:
        deaths, committer, fold = Deaths(), FakeCommitter(), Script()
        engine, part = an_engine(deaths), ready_part(fold, committer)
        committer.gate.clear()
        batches = [a_batch(part, 0, 1), a_batch(part, 2), a_batch(part, 3, 4)]
        for batch in batches:
            await engine.process(batch)
        assert fold.offsets == [0, 1, 2, 3, 4], "folds do not wait for commits"
        assert committer.committed == []
        committer.gate.set()
        await part.idle.wait()
        assert committer.committed == [1, 2, 4]
        assert part.committed == 4
        assert (engine.stats().records, engine.stats().batches) == (5, 3)
        assert not deaths.reasons

    asyncio.run(main())


@pytest.mark.parametrize("offsets", [(3, 4), (4, 5)])
def test_process_dies_when_a_batch_is_folded_twice(offsets: tuple[int, ...]) -> None:
    async def main() -> None:
        deaths = Deaths()
        engine, part = an_engine(deaths), ready_part(Script(), FakeCommitter(), want=5)
        with pytest.raises(Fatal, match="could not fold"):
            await engine.process(a_batch(part, *offsets))
        assert isinstance(deaths.errors[0], EngineError)

    asyncio.run(main())


def test_process_dies_when_batches_change_places() -> None:
    async def main() -> None:
        deaths = Deaths()
        engine, part = an_engine(deaths), ready_part(Script(), FakeCommitter())
        a_batch(part, 0)
        second = a_batch(part, 1)
        with pytest.raises(Fatal):
            await engine.process(second)

    asyncio.run(main())


def test_process_leaves_a_cancelled_batch_alone() -> None:
    async def main() -> None:
        deaths, fold = Deaths(), Script()
        engine, part = an_engine(deaths), ready_part(fold, FakeCommitter())
        batch = a_batch(part, 0)
        part.quiesce()
        await engine.process(batch)
        assert fold.offsets == []
        assert part.idle.is_set()

    asyncio.run(main())


def test_process_dies_with_the_offset_unmoved_when_the_fold_raises() -> None:
    def rule(one: Record) -> Effects:
        raise ZeroDivisionError

    async def main() -> None:
        deaths, committer = Deaths(), FakeCommitter()
        engine, part = an_engine(deaths), ready_part(Script(rule), committer)
        with pytest.raises(Fatal):
            await engine.process(a_batch(part, 0))
        assert isinstance(deaths.errors[0], ZeroDivisionError)
        assert part.table.last == -1
        assert committer.committed == []

    asyncio.run(main())


def test_process_dies_when_a_commit_fails_and_commits_nothing_after_it() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # Fatal is a stand-in
        deaths, committer = Deaths(), FakeCommitter()
        engine, part = an_engine(deaths), ready_part(Script(), committer)
        committer.error = ProducerFenced()
        await engine.process(a_batch(part, 0))
        await engine.process(a_batch(part, 1))
        await deaths.first.wait()
        assert isinstance(deaths.errors[0], ProducerFenced)
        assert committer.committed == []
        committer.error = None

    asyncio.run(main())


def test_is_fenced_looks_at_the_cause() -> None:
    outer = RuntimeError()
    outer.__cause__ = ProducerFenced()
    assert is_fenced(outer)
    assert not is_fenced(ValueError())
    assert not is_fenced(None)
    assert len({0, 1, EXIT_FATAL, EXIT_FENCED}) == 4


def feed_until(
    part: Part, consumer: FakeConsumer, until: Callable[[], bool], **settings: Any
) -> list[list[int]]:
    """Run a feed until the condition holds; each batch is folded at once."""
    batches: list[list[int]] = []

    async def main() -> None:
        done = asyncio.Event()

        async def deliver(batch: Batch) -> None:
            part.pending.popleft()
            part.update()
            batches.append([r.offset for r in batch.records])
            if until():
                done.set()

        feed = Feed(app_settings(**settings), consumer, deliver)
        task = asyncio.create_task(feed.run(part))
        waiter = asyncio.create_task(done.wait())
        await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED, timeout=5)
        waiter.cancel()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    asyncio.run(main())
    return batches


def test_feed_delivers_the_log_in_order_over_holes() -> None:
    part = ready_part(Script(), FakeCommitter())
    consumer = FakeConsumer(log=[0, 1, 3, 4, 9])
    batches = feed_until(part, consumer, lambda: part.cursor.want == 10, batch_records=2)
    assert [o for batch in batches for o in batch] == [0, 1, 3, 4, 9]
    assert consumer.seeks == [2, 5], "each hole between two answers is asked for once"


def test_feed_goes_on_after_an_outage() -> None:
    part = ready_part(Script(), FakeCommitter())
    consumer = FakeConsumer(log=[0])
    consumer.answers = [KafkaConnectionError("away")]
    assert feed_until(part, consumer, lambda: True) == [[0]]


def test_feed_ends_when_the_broker_refuses_for_good() -> None:
    consumer = FakeConsumer()
    consumer.answers = [TopicAuthorizationFailedError("in")]
    part = ready_part(Script(), FakeCommitter())
    with pytest.raises(TopicAuthorizationFailedError):
        feed_until(part, consumer, lambda: False)


def test_feed_refuses_to_go_on_behind_input_that_retention_removed() -> None:
    part = ready_part(Script(), FakeCommitter(), want=5)
    with pytest.raises(EngineError, match=r"in\[0\] must still hold offset 5, .*; got 8"):
        feed_until(part, FakeConsumer(log=[8, 9], start=8), lambda: False)


def test_feed_goes_on_behind_lost_input_when_told_to() -> None:
    part = ready_part(Script(), FakeCommitter(), want=5)
    consumer = FakeConsumer(log=[8, 9], start=8)
    assert feed_until(part, consumer, lambda: True, accept_lost_input=True) == [[8, 9]]


def test_feed_starts_behind_what_retention_removed_before_the_first_fold() -> None:
    part = ready_part(Script(), FakeCommitter(), want=0)
    assert feed_until(part, FakeConsumer(log=[8, 9], start=8), lambda: True) == [[8, 9]]


def test_feed_waits_while_two_batches_are_out() -> None:
    async def main() -> None:
        part = ready_part(Script(), FakeCommitter())
        delivered = asyncio.Queue[Batch]()
        feed = Feed(app_settings(batch_records=1), FakeConsumer(log=range(9)), delivered.put)
        task = asyncio.create_task(feed.run(part))
        for _ in range(50):
            await asyncio.sleep(0)
        assert delivered.qsize() == 2
        part.pending.popleft()
        part.update()
        for _ in range(50):
            await asyncio.sleep(0)
        assert delivered.qsize() == 3
        task.cancel()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "fatal"),
    [(GroupAuthorizationFailedError("app"), True), (KafkaConnectionError("away"), False)],
)
def test_housekeeping_says_when_the_group_refuses_a_worker_without_parts(
    error: KafkaError, fatal: bool
) -> None:
    class Refusing:
        async def getmany(self, timeout_ms: int) -> dict[Any, Any]:
            raise error

    async def main() -> None:
        keeper = Housekeeping(app_settings(), Refusing(), {})
        if fatal:
            with pytest.raises(EngineError, match="group t-app must take us in"):
                await keeper.turn()
        else:
            await keeper.turn()

    asyncio.run(main())
