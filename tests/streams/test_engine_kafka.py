"""The engine against a real broker; the torture has a file of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.engine import (
    OFFSET_KEY,
    Effects,
    EngineError,
    EngineSettings,
    Output,
    PartitionFold,
    Record,
    Table,
)
from streams.engine.fatal import is_fenced
from tests.streams.enginekit import (
    Deaths,
    Script,
    app_settings,
    copy_rule,
    make_topics,
    produce,
    running,
)
from tests.support import eventually_async
from tests.torture.oracle import read_committed

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


class Folds:
    """Makes copying folds and keeps what they were given."""

    def __init__(self, app: EngineSettings) -> None:
        self.app = app
        self.made: dict[int, tuple[Script, Table]] = {}

    def __call__(self, partition: int, table: Table) -> PartitionFold:
        fold = Script(copy_rule(self.app.outputs[0]))
        self.made[partition] = (fold, table)
        return fold


async def answers(broker: str, topic: str, n: int, partitions: int = 2) -> list[bytes]:
    """Return the values of a topic once there are `n`."""

    async def enough() -> list[bytes]:
        values = [r.value for r in await read_committed(broker, topic, partitions)]
        return values if len(values) >= n else []

    return await eventually_async(enough, what=f"{n} records in {topic}")


def test_engine_writes_outputs_states_and_offset_and_goes_on_after_a_restart(
    broker: str, topics_prefix: str
) -> None:
    async def main() -> None:
        app = app_settings(topics_prefix, batch_records=7)
        kafka = await make_topics(broker, app)
        values = [b"%d" % i for i in range(100)]
        await produce(broker, app.source, values[:60], partition=1)
        deaths, first = Deaths(), Folds(app)
        async with running(app, kafka, first, deaths) as engine:
            assert await answers(broker, app.outputs[0], 60) == values[:60]

            async def caught_up() -> bool:
                return engine.stats().lag.get(1) == 0

            await eventually_async(caught_up, what="no lag")
            assert engine.stats().records == 60
            assert engine.stats().partitions == (0, 1)
        log = await read_committed(broker, app.changelog, 2)
        assert {r.partition for r in log} == {1}
        assert sum(r.key == OFFSET_KEY for r in log) >= 60 // 7
        await produce(broker, app.source, values[60:], partition=1)
        second = Folds(app)
        async with running(app, kafka, second, deaths):
            assert await answers(broker, app.outputs[0], 100) == values
            fold, table = second.made[1]
            assert fold.offsets == list(range(60, 100)), "nothing was folded twice"
            assert table[b"3"] == b"3"
        assert not deaths.reasons

    asyncio.run(main())


def test_engine_folds_a_source_of_its_own_outputs_over_all_markers(
    broker: str, topics_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each answer is a transaction in the source itself, so every second offset is a marker."""

    async def main() -> None:
        app = app_settings(
            topics_prefix, source=f"{topics_prefix}m", outputs=(f"{topics_prefix}m",)
        )
        kafka = await make_topics(broker, app, partitions=1)

        def rule(one: Record) -> Effects:
            n = int(one.value or b"0")
            return Effects([Output(app.source, b"%d" % (n - 1), one.key)] if n else [], {})

        deaths = Deaths()
        async with running(app, kafka, lambda _p, _t: Script(rule), deaths):
            await produce(broker, app.source, [b"60"])
            got = await answers(broker, app.source, 61, partitions=1)
            assert got == [b"%d" % n for n in range(60, -1, -1)]
        assert not deaths.reasons

    with caplog.at_level("INFO", logger="grindstone.engine"):
        asyncio.run(main())
    assert sum("wants" in r.getMessage() for r in caplog.records) <= 6, "markers cost a seek each"


def test_engine_writes_a_record_larger_than_a_produce_batch(
    broker: str, topics_prefix: str
) -> None:
    async def main() -> None:
        app = app_settings(topics_prefix, max_state_bytes=1_000_000)
        kafka = await make_topics(broker, app)
        values = [os.urandom(n) for n in (950_000, 10, 600_000, 700_000)]
        await produce(broker, app.source, values)
        deaths = Deaths()
        async with running(app, kafka, Folds(app), deaths):
            assert await answers(broker, app.outputs[0], 4) == values
        assert not deaths.reasons

    asyncio.run(main())


@pytest.mark.parametrize("what", ["record", "state"])
def test_engine_names_what_is_too_large_and_loses_no_input(
    broker: str, topics_prefix: str, what: str
) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # Fatal is a stand-in
        limits = {"max_record_bytes": 500, "max_state_bytes": 500}
        small = app_settings(topics_prefix, **limits)
        kafka = await make_topics(broker, small)
        await produce(broker, small.source, [b"x" * 10, b"y" * 600])

        def rule(one: Record) -> Effects:
            if what == "record":
                return Effects([Output(small.outputs[0], one.value, b"big")], {})
            return Effects([Output(small.outputs[0], b"")], {b"big": one.value})

        deaths = Deaths()
        async with running(small, kafka, lambda _p, _t: Script(rule), deaths):
            await asyncio.wait_for(deaths.first.wait(), 20)
        error = deaths.errors[0]
        topic = small.outputs[0] if what == "record" else small.changelog
        assert isinstance(error, EngineError)
        assert f"for {topic} must be at most 500 bytes; got 60" in str(error)
        assert "b'big'" in str(error)
        large = app_settings(topics_prefix)
        async with running(large, kafka, Folds(large), Deaths()):
            got = await answers(broker, large.outputs[0], 2)
            assert got[-1] == b"y" * 600

    asyncio.run(main())


def test_engine_is_fenced_by_a_newer_owner(broker: str, topics_prefix: str) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # Fatal is a stand-in
        app = app_settings(topics_prefix)
        kafka = await make_topics(broker, app)
        deaths = Deaths()
        async with running(app, kafka, Folds(app), deaths) as engine:
            await produce(broker, app.source, [b"1"])
            await answers(broker, app.outputs[0], 1)
            async with AIOKafkaProducer(bootstrap_servers=broker, transactional_id=f"{app.app}-0"):
                await produce(broker, app.source, [b"2"])
                await asyncio.wait_for(deaths.first.wait(), 20)
            assert is_fenced(deaths.errors[0])
            assert engine.stats().records == 1
        assert await answers(broker, app.outputs[0], 1) == [b"1"]

    asyncio.run(main())


def test_engine_tells_the_group_its_offsets(broker: str, topics_prefix: str) -> None:
    async def main() -> None:
        app = app_settings(topics_prefix)
        kafka = await make_topics(broker, app)
        await produce(broker, app.source, [b"1", b"2", b"3"])
        async with running(app, kafka, Folds(app), Deaths()):
            await answers(broker, app.outputs[0], 3)
        async with AIOKafkaConsumer(bootstrap_servers=broker, group_id=app.app) as consumer:
            assert await consumer.committed(TopicPartition(app.source, 0)) == 3

    asyncio.run(main())


@pytest.mark.parametrize("field", ["source", "changelog", "outputs"])
def test_engine_refuses_to_start_without_a_topic(
    broker: str, topics_prefix: str, field: str
) -> None:
    async def main() -> None:
        kafka = await make_topics(broker, app_settings(topics_prefix))
        absent = f"{topics_prefix}absent"
        value = (absent,) if field == "outputs" else absent
        app = app_settings(topics_prefix, **{field: value})
        with pytest.raises(EngineError, match=f"topic {absent} must exist"):
            async with running(app, kafka, Folds(app), Deaths()):
                pass

    asyncio.run(main())


def test_engine_refuses_a_changelog_with_fewer_partitions(broker: str, topics_prefix: str) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # Fatal is a stand-in
        two = app_settings(topics_prefix)
        kafka = await make_topics(broker, two)
        one = app_settings(f"{topics_prefix}one-")
        await make_topics(broker, one, partitions=1)
        app = app_settings(topics_prefix, changelog=one.changelog)
        deaths = Deaths()
        async with running(app, kafka, Folds(app), deaths):
            await asyncio.wait_for(deaths.first.wait(), 20)
        assert f"{one.changelog} must have as many partitions" in str(deaths.errors[0])

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["faust", "direct"])
def test_engine_stops_while_it_waits_for_a_broker(mode: str, tmp_path: Path) -> None:
    """The address takes connections and never answers."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            arguments = ["-m", "tests.torture.worker", address, "none-", mode, "0"]
            with (tmp_path / "worker.log").open("wb") as log:
                worker = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stderr=log)
            try:
                connection, _ = await asyncio.to_thread(silent.accept)
                with connection:
                    since = time.monotonic()
                    worker.send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(worker.wait, 10) == 0
                    assert time.monotonic() - since < 5.0
            finally:
                worker.kill()
                worker.wait()

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["faust", "direct"])
def test_engine_stops_cleanly_under_load(
    broker: str, topics_prefix: str, mode: str, tmp_path: Path
) -> None:
    async def main() -> None:
        from tests.torture.counting import settings

        app = settings(topics_prefix)
        await make_topics(broker, app, partitions=4)
        await produce(broker, app.source, [b"x"] * 5_000)
        arguments = ["-m", "tests.torture.worker", broker, topics_prefix, mode, "0"]
        with (tmp_path / "worker.log").open("wb") as log:
            worker = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stderr=log)
        try:
            await answers(broker, app.outputs[0], 1, partitions=4)
            since = time.monotonic()
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, 10) == 0
            assert time.monotonic() - since < 5.0
        finally:
            worker.kill()
            worker.wait()
        text = (tmp_path / "worker.log").read_text()
        assert "fatal" not in text
        assert "Traceback" not in text
        assert "Unclosed" not in text

    asyncio.run(main())
