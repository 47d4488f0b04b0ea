"""Learner processes on a real broker: sharing, hand-over, quarantine, fencing, clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from learners.process import (
    LearnerConfig,
    LearnerFencedError,
    LearnerProcess,
)
from learners.session import Workplace
from learners.sessions import partition_of
from schemas.game import Game, parse_game
from schemas.kafka import KafkaSettings
from schemas.model_events import Registered, decode_model_event
from schemas.records import Metric, Window, decode_metric, encode_window
from schemas.topics import Topics
from tests.learners import toy
from tests.support import eventually_async

pytestmark = pytest.mark.integration

PARTITIONS = 4


def game() -> Game:
    described = toy.learner(updates_per_row=0.5)
    table = {name: getattr(described, name) for name in described.__struct_fields__}
    kinds = ("walker", "hiker")
    return parse_game({
        "game": "toy",
        "observation": {"layout": "cell@1", "shape": [toy.N_CELLS]},
        "actions": {"names": ["left", "right", "wall"]},
        "rewards": {"walk@1": {"weights": {"won": 1.0}}},
        "domains": {"walk": {"reward": "walk@1"}},
        "archetypes": {kind: {"model": f"toy-{kind}"} for kind in kinds},
        "learners": {kind: table for kind in kinds},
    })  # fmt: skip


class Bench:
    """Topics of a test and the clients it reads and writes them with."""

    def __init__(self, broker: str, prefix: str, root: Path) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=broker)
        self.topics = Topics(prefix)
        self.place = Workplace(
            archive=str(root / "archive"),
            models=root / "models",
            checkpoints=root / "checkpoints",
            code_version="test",
        )
        self.archive = root / "archive"
        self._consumers: list[Any] = []
        self._runners: list[Runner] = []

    async def open(self) -> None:
        admin = AIOKafkaAdminClient(**self.kafka.client())
        await admin.start()
        names = {
            self.topics.replay_windows: PARTITIONS, self.topics.models: 1, self.topics.metrics: 1,
        }  # fmt: skip
        await admin.create_topics([NewTopic(name, n, 1) for name, n in names.items()])
        await admin.close()
        self._producer = AIOKafkaProducer(**self.kafka.client())
        await self._producer.start()
        self.models: list[Registered] = []
        self.metrics: list[Metric] = []
        self._models = await self._reader(self.topics.models)
        self._metrics = await self._reader(self.topics.metrics)

    async def _reader(self, topic: str) -> Any:
        consumer = AIOKafkaConsumer(
            topic, **self.kafka.client(), auto_offset_reset="earliest",
            isolation_level="read_committed", group_id=None,
        )  # fmt: skip
        await consumer.start()
        self._consumers.append(consumer)
        return consumer

    def learner(self, name: str) -> Runner:
        """Start a learner process."""
        runner = Runner(self.config(name))
        self._runners.append(runner)
        return runner

    async def close(self) -> None:
        for runner in self._runners:
            runner.task.cancel()
            await asyncio.gather(runner.task, return_exceptions=True)
        for client in (*self._consumers, self._producer):
            await client.stop()

    async def announce(self, window: Window, kind: str = "walker") -> None:
        await self._producer.send_and_wait(
            self.topics.replay_windows,
            key=f"toy/{kind}".encode(),
            value=encode_window(window),
        )

    def rows(self, kind: str, n: int, seed: int = 0) -> list[Window]:
        """Write windows of 100 rows of one archetype."""
        rows = [toy.changed(row, archetype=kind) for row in toy.walk(n, seed)]
        return toy.write_windows(self.archive, rows, 100, kind)

    async def read(self) -> None:
        """Take in what `models` and `metrics` have got."""
        for records in (await self._models.getmany(timeout_ms=50)).values():
            events = [decode_model_event(record.value) for record in records]
            self.models += [event for event in events if isinstance(event, Registered)]
        for records in (await self._metrics.getmany(timeout_ms=50)).values():
            self.metrics += [decode_metric(record.value) for record in records]

    async def until_versions(self, *wanted: tuple[str, str]) -> None:
        async def seen() -> bool:
            await self.read()
            for runner in self._runners:
                if runner.task.done() and not runner.task.cancelled():
                    runner.task.result()  # what ended it, rather than a late answer
            return set(wanted) <= {(event.model, event.version) for event in self.models}

        await eventually_async(seen, 60, f"versions {wanted} on models")

    def config(self, name: str) -> LearnerConfig:
        return LearnerConfig(
            kafka=self.kafka, topics=self.topics, games=[game()], place=self.place,
            process=name, session_timeout_ms=6_000, device="cpu",
        )  # fmt: skip


class Runner:
    """A learner process as a task of the test's loop."""

    def __init__(self, config: LearnerConfig) -> None:
        self.stop = asyncio.Event()
        self.process = LearnerProcess(config)
        self.task = asyncio.create_task(self.process.run(self.stop))

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 10)


@contextlib.asynccontextmanager
async def bench(broker: str, prefix: str, root: Path) -> AsyncIterator[Bench]:
    made = Bench(broker, prefix, root)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def test_keys_of_the_test_lie_in_different_partitions() -> None:
    assert partition_of("toy/walker", PARTITIONS) != partition_of("toy/hiker", PARTITIONS)


def test_learner_registers_versions_and_goes_on_after_a_stop(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with bench(broker, topics_prefix, tmp_path) as b:
            windows = b.rows("walker", 1_200)
            first = b.learner("one")
            for window in windows[:6]:
                await b.announce(window)
            await b.until_versions(("toy-walker", "v0001"))
            await first.end()
            second = b.learner("two")
            for window in windows[4:]:  # two of them again, as a restarted archiver would
                await b.announce(window)
            await b.until_versions(("toy-walker", "v0004"))
            await second.end()
            versions = [event.version for event in b.models]
            assert versions == ["v0001", "v0002", "v0003", "v0004"]
            last = b.models[-1]
            assert last.n_updates == 400
            assert last.source_offsets["0"][0] == 0
            folder = b.place.models / last.folder
            assert {file.path for file in last.files} == {p.name for p in folder.iterdir()}

    asyncio.run(scenario())


def test_two_learners_share_models_and_a_dead_ones_share_moves(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with bench(broker, topics_prefix, tmp_path) as b:
            runners = [b.learner("one"), b.learner("two")]
            await eventually_async(lambda: _both_own(runners), 30, "both learners own partitions")
            windows = {kind: b.rows(kind, 1_000) for kind in ("walker", "hiker")}
            for kind, mine in windows.items():
                for window in mine[:5]:
                    await b.announce(window, kind)
            await b.until_versions(("toy-walker", "v0001"), ("toy-hiker", "v0001"))
            owners = [sorted(r.process.open_models()) for r in runners]
            dead = next(r for r in runners if "toy/walker" in r.process.open_models())
            other = next(r for r in runners if r is not dead)
            if PARTITIONS // 2 == 2 and owners[0] and owners[1]:
                assert not set(owners[0]) & set(owners[1])
            dead.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await dead.task
            for kind, mine in windows.items():
                for window in mine[5:]:
                    await b.announce(window, kind)
            await b.until_versions(("toy-walker", "v0003"), ("toy-hiker", "v0003"))
            assert sorted(other.process.open_models()) == ["toy/hiker", "toy/walker"]
            await other.end()

    asyncio.run(scenario())


def test_version_announced_before_a_crash_is_not_announced_again(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with bench(broker, topics_prefix, tmp_path) as b:
            for window in b.rows("walker", 1_200):
                await b.announce(window)
            killed = b.learner("one")
            await b.until_versions(("toy-walker", "v0003"))
            killed.task.cancel()
            await asyncio.gather(killed.task, return_exceptions=True)
            shutil.rmtree(b.place.checkpoints)  # as if it had died before it wrote any
            again = b.learner("two")
            await b.until_versions(("toy-walker", "v0005"))
            await again.end()
            assert [event.version for event in b.models] == [f"v{k:04d}" for k in range(1, 6)]

    asyncio.run(scenario())


async def _both_own(runners: list[Runner]) -> bool:
    return all(r.process.owned_partitions() for r in runners)


def test_bad_window_is_quarantined_and_training_goes_on(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with bench(broker, topics_prefix, tmp_path) as b:
            windows = b.rows("walker", 800)
            spoilt = b.archive / windows[1].files[0].path
            spoilt.write_bytes(spoilt.read_bytes()[:-1])
            runner = b.learner("one")
            for window in windows:
                await b.announce(window)
            await b.until_versions(("toy-walker", "v0002"))
            await runner.end()
            await b.read()
            labels = [m.labels for m in b.metrics if "quarantined" in m.values and m.labels]
            reasons = [label["reason"] for label in labels if "reason" in label]
            assert len(reasons) == 1
            assert "$.sha256 must be" in reasons[0]
            assert b.models[-1].n_windows < len(windows)

    asyncio.run(scenario())


def test_learner_that_was_replaced_is_fenced(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with bench(broker, topics_prefix, tmp_path) as b:
            windows = b.rows("walker", 1_200)
            zombie = b.learner("one")
            for window in windows[:6]:
                await b.announce(window)
            await b.until_versions(("toy-walker", "v0001"))
            usurper = AIOKafkaProducer(
                **b.kafka.client(), transactional_id=f"{topics_prefix}learner-toy-walker"
            )
            await usurper.start()
            for window in windows[6:]:
                await b.announce(window)
            with pytest.raises(LearnerFencedError, match="toy-walker must be this learner's"):
                await asyncio.wait_for(zombie.task, 30)
            await usurper.stop()
            await b.read()
            assert len(b.models) == 1

    asyncio.run(scenario())
