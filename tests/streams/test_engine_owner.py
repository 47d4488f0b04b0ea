from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from schemas.kafka import KafkaSettings
from streams.engine import Table
from streams.engine.feed import Feed
from streams.engine.owner import Owner
from streams.engine.records import Batch
from streams.engine.table import StateTable
from streams.engine.tasks import Tasks
from tests.streams.enginekit import (
    Deaths,
    FakeCommitter,
    FakeConsumer,
    Script,
    app_settings,
    record,
)


class Setting:
    """An owner over fakes; `committers` by partition in the order in which they were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int = 4) -> None:
        self.committers: dict[int, list[FakeCommitter]] = {}
        self.recovered: list[int] = []
        self.consumer = FakeConsumer(log=range(10))
        self.delivered: list[Batch] = []
        self.deaths = Deaths()
        self.last = last
        monkeypatch.setattr("streams.engine.owner.Committer", self._committer)
        monkeypatch.setattr("streams.engine.owner.Recovery", self._recovery)
        app, kafka = app_settings(), KafkaSettings()
        self.tasks = Tasks("app", self.deaths)
        feed = Feed(app, self.consumer, self._deliver)
        self.owner = Owner(app, kafka, self._fold, self.tasks, self.consumer, feed)

    def _committer(self, _kafka: Any, _app: Any, partition: int) -> FakeCommitter:
        made = FakeCommitter()
        self.committers.setdefault(partition, []).append(made)
        return made

    def _recovery(self, _kafka: Any, _app: Any, partition: int) -> Any:
        setting = self

        class Recovery:
            records = 1
            seconds = 0.0

            async def run(self) -> StateTable:
                setting.recovered.append(partition)
                table = StateTable()
                table.last = setting.last
                return table

        return Recovery()

    def _fold(self, _partition: int, _table: Table) -> Script:
        return Script()

    async def _deliver(self, batch: Batch) -> None:
        self.delivered.append(batch)

    async def assign(self, *partitions: int) -> None:
        await self.owner.on_partitions_assigned({TopicPartition("in", p) for p in partitions})
        for part in self.owner.parts.values():
            assert part.recovering is not None
            await part.recovering

    def taking(self) -> list[int]:
        return [p for p, part in self.owner.parts.items() if part.ready]

    async def revoke(self) -> None:
        await self.owner.on_partitions_revoked({TopicPartition("in", p) for p in self.owner.parts})


def test_owner_recovers_and_goes_on_behind_the_stored_offset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        setting = Setting(monkeypatch)
        await setting.assign(0)
        assert setting.consumer.seeks == [5]
        for _ in range(20):
            await asyncio.sleep(0)
        assert setting.delivered[0].records[0].offset == 5
        await setting.tasks.cancel_all()

    asyncio.run(main())


def test_owner_keeps_state_and_producer_of_parts_that_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        setting = Setting(monkeypatch)
        await setting.assign(0, 1)
        kept = setting.owner.parts[0]
        await setting.revoke()
        assert setting.taking() == []
        await setting.assign(0)
        assert setting.owner.parts == {0: kept}
        assert setting.taking() == [0]
        assert sorted(setting.recovered) == [0, 1], "nothing was recovered twice"
        assert not setting.committers[0][0].stopped
        await setting.revoke()
        await setting.assign(0, 1)
        assert setting.committers[1][0].stopped, "the one that left was closed first"
        assert len(setting.committers[1]) == 2
        await setting.tasks.cancel_all()

    asyncio.run(main())


def test_owner_waits_at_a_revoke_for_commits_and_drops_what_is_not_folded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        setting = Setting(monkeypatch)
        await setting.assign(0)
        part = setting.owner.parts[0]
        part.in_flight = 1
        part.update()
        waiting = Batch(part, [record(5)])
        part.pending.append(waiting)
        revoke = asyncio.create_task(setting.revoke())
        for _ in range(20):
            await asyncio.sleep(0)
        assert waiting.cancelled
        assert not revoke.done(), "a commit is still in flight"
        part.in_flight = 0
        part.update()
        await revoke
        await setting.tasks.cancel_all()

    asyncio.run(main())


def test_owner_refuses_a_source_that_was_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # Fatal is a stand-in
        setting = Setting(monkeypatch, last=10)
        with pytest.raises(Exception, match="must reach beyond offset 10"):
            await setting.assign(0)
        await setting.deaths.first.wait()
        assert setting.deaths.reasons
        await setting.tasks.cancel_all()

    asyncio.run(main())
