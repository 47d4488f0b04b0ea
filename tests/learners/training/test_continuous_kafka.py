"""The continuous learner on a real broker: versions told, bad windows named, the rest learned."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
import torch
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from learners.history import digest_of
from learners.process import LearnerConfig, LearnerProcess
from schemas.kafka import KafkaSettings
from schemas.model_events import Registered, decode_model_event
from schemas.records import Metric, Window, decode_metric, encode_window
from schemas.topics import Topics
from tests.learners.training import logged
from tests.learners.training.continued import KEY, feed, sessions
from tests.learners.training.test_continuous import spoilt
from tests.support import eventually_async

pytestmark = pytest.mark.integration


class Log:
    """Topics of a test, written and read."""

    def __init__(self, broker: str, prefix: str) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=broker)
        self.topics = Topics(prefix)
        self.versions: list[Registered] = []
        self.metrics: list[Metric] = []

    async def __aenter__(self) -> Log:
        client = self.kafka.client()
        admin = AIOKafkaAdminClient(**client)
        await admin.start()
        names = (self.topics.replay_windows, self.topics.models, self.topics.metrics)
        await admin.create_topics([NewTopic(name, 1, 1) for name in names])
        await admin.close()
        self.producer = AIOKafkaProducer(**client)
        await self.producer.start()
        self._reader = AIOKafkaConsumer(
            self.topics.models, self.topics.metrics, **client, auto_offset_reset="earliest",
            isolation_level="read_committed", group_id=None,
        )  # fmt: skip
        await self._reader.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reader.stop()
        await self.producer.stop()

    async def read(self) -> None:
        for partition, records in (await self._reader.getmany(timeout_ms=50)).items():
            for record in records:
                if partition.topic == self.topics.metrics:
                    self.metrics.append(decode_metric(record.value))
                    continue
                event = decode_model_event(record.value)
                assert isinstance(event, Registered)
                self.versions.append(event)


def made_undisturbed(root: Path, windows: list[Window]) -> set[tuple[str, str, str]]:
    """Model, version and digest of what a session makes that nothing stops."""
    alone = root / "alone"
    alone.mkdir()
    (alone / "archive").symlink_to(root / "archive")
    return {(v.model, v.version, digest_of(v)) for v in feed(alone, windows)[1]}


def test_continuous_learner_tells_versions_and_quarantines_windows(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    windows = spoilt(tmp_path / "archive", logged.windows(tmp_path / "archive", 20, 300))
    expected = made_undisturbed(tmp_path, windows)

    async def scenario() -> None:
        async with Log(broker, topics_prefix) as log:
            config = LearnerConfig(
                kafka=log.kafka, topics=log.topics, trains=sessions(tmp_path), process="learn",
                session_timeout_ms=6_000, device="cpu",
            )  # fmt: skip
            stop = asyncio.Event()
            learner = asyncio.create_task(LearnerProcess(config).run(stop))
            for window in windows:
                await log.producer.send_and_wait(
                    log.topics.replay_windows, key=KEY.encode(), value=encode_window(window)
                )
            for other in (
                encode_window(msgspec.structs.replace(windows[0], archetype="tank")),
                b"?",
            ):
                await log.producer.send_and_wait(
                    log.topics.replay_windows, key=b"toy/tank", value=other
                )

            async def none_left() -> bool:
                await log.read()
                lags = [m.values["lag_windows"] for m in log.metrics if "lag_windows" in m.values]
                return bool(lags) and lags[-1] == 0

            async def all_told() -> bool:
                await log.read()
                if learner.done():
                    learner.result()
                return len(log.versions) >= len(expected)

            await eventually_async(all_told, 60, f"{len(expected)} versions on models")
            await eventually_async(none_left, 20, "no lag, whoever's the last windows are")
            stop.set()
            await asyncio.wait_for(learner, 20)
            await log.read()
            assert {(v.model, v.version, digest_of(v)) for v in log.versions} == expected
            assert len(log.versions) == len(expected)
            told = [m.labels["reason"] for m in log.metrics if "quarantined" in m.values
                    and "reason" in m.labels]  # fmt: skip
            assert len(told) == 5
            rules = ("finite", "32 bytes a row", "readable", "$.sha256 must be", "malformed")
            for rule, reason in zip(rules, told, strict=True):
                assert rule in reason

    asyncio.run(scenario())


async def until_at_work(log: Log, process: LearnerProcess, to_the_end: bool, n_all: int) -> None:
    """Run a process until it is in the midst of work, or until all versions are told."""
    stop = asyncio.Event()
    learner = asyncio.create_task(process.run(stop))

    async def enough() -> bool:
        await log.read()
        if learner.done():
            learner.result()
        at_work = any(session.busy for session in process._sessions.values())
        return (at_work and not to_the_end) or len(log.versions) >= n_all

    await eventually_async(enough, 60, "work, or all versions")
    stop.set()
    await asyncio.wait_for(learner, 20)
    await log.read()


def test_continuous_learner_that_is_stopped_and_started_makes_the_same_versions(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    windows = logged.windows(tmp_path / "archive", 20, 300)
    expected = made_undisturbed(tmp_path, windows)

    async def scenario() -> None:
        async with Log(broker, topics_prefix) as log:
            for window in windows:
                await log.producer.send_and_wait(
                    log.topics.replay_windows, key=KEY.encode(), value=encode_window(window)
                )
            config = LearnerConfig(
                kafka=log.kafka, topics=log.topics, trains=sessions(tmp_path), process="learn",
                session_timeout_ms=6_000, device="cpu",
            )  # fmt: skip
            n_starts = 0
            while len(log.versions) < len(expected):
                n_starts += 1
                await until_at_work(log, LearnerProcess(config), n_starts > 6, len(expected))
            assert n_starts > 3
            assert {(v.model, v.version, digest_of(v)) for v in log.versions} == expected
            assert len(log.versions) == len(expected)
            assert not [m for m in log.metrics if "refused" in m.values]

    asyncio.run(scenario())
