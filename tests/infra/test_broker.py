"""The local broker: its life over kills and restarts, and that it harms nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.kafka.broker import BrokerState, LocalBroker, main
from infra.kafka.errors import BrokerError
from infra.kafka.java import JavaRunner
from infra.kafka.ports import free_ports, is_free
from infra.kafka.process import ProcessName
from tests.support import eventually

VALUES = [f"value {n}".encode() for n in range(50)]


@pytest.fixture
def own(
    scratch: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalBroker]:
    monkeypatch.delenv("GRINDSTONE_KAFKA_PORT", raising=False)
    broker = LocalBroker(scratch / request.node.name, runner="java")
    yield broker
    broker.wipe()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else's."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def write(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value in VALUES:
            await producer.send_and_wait("kept", value, partition=0)


async def read(bootstrap: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        where = TopicPartition("kept", 0)
        consumer.assign([where])
        consumer.seek(where, 0)
        found: list[bytes] = []
        async with asyncio.timeout(30):
            while len(found) < len(VALUES):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [record.value for record in records]
        return found
    finally:
        await consumer.stop()


@pytest.mark.integration
@pytest.mark.slow
def test_broker_comes_back_after_sigkill_with_its_data_and_its_port(own: LocalBroker) -> None:
    address = own.start()
    pids = [own.pid]
    asyncio.run(write(address))

    own.kill()
    assert not own.serving()
    pids.append(own.pid)

    assert own.start() == address
    pids.append(own.pid)
    assert pids[1] is None
    assert None not in {pids[0], pids[2]}
    assert pids[0] != pids[2]
    assert asyncio.run(read(address)) == VALUES


@pytest.mark.integration
@pytest.mark.slow
def test_broker_is_found_and_stopped_by_another_object(own: LocalBroker) -> None:
    address = own.start()
    other = LocalBroker(own.run_dir, runner="java")
    assert other.serving()
    assert other.start() == address
    assert other.pid == own.pid

    other.stop()
    assert not own.serving()
    assert own.pid is None
    assert is_free(int(address.partition(":")[2]))


@pytest.mark.integration
@pytest.mark.slow
def test_broker_takes_other_ports_when_its_own_are_gone(own: LocalBroker) -> None:
    port, controller_port = free_ports(2)
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as squatter:
        eventually(lambda: not is_free(port), what="the squatter's port in use")
        own.run_dir.mkdir(parents=True)
        state = BrokerState("java", port, controller_port)
        (own.run_dir / "broker.json").write_bytes(msgspec.json.encode(state))
        address = own.start()
        squatter.kill()
    assert address != f"127.0.0.1:{port}"
    assert own.serving()


def test_broker_with_a_port_in_use_names_it(scratch: Path, own: LocalBroker) -> None:
    (port,) = free_ports(1)
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as squatter:
        eventually(lambda: not is_free(port), what="the squatter's port in use")
        with pytest.raises(BrokerError, match=f"must be free; got {port}"):
            LocalBroker(own.run_dir, port=port, runner="java").start()
        squatter.kill()


def test_broker_never_signals_a_process_that_took_over_its_id(
    own: LocalBroker, sleeper: subprocess.Popen[bytes]
) -> None:
    name = ProcessName.of(sleeper.pid)
    assert name is not None
    folder = own.run_dir / "kafka"
    folder.mkdir(parents=True)
    state = BrokerState("java", *free_ports(2))
    (own.run_dir / "broker.json").write_bytes(msgspec.json.encode(state))
    earlier = ProcessName(name.pid, name.started_ticks - 1, name.boot)
    (folder / "process.json").write_bytes(msgspec.json.encode(earlier))

    assert own.pid is None
    own.stop()
    own.kill()
    own.wipe()
    assert sleeper.poll() is None
    assert not folder.exists()


def test_broker_state_that_is_not_readable_is_named(own: LocalBroker) -> None:
    own.run_dir.mkdir(parents=True)
    file = own.run_dir / "broker.json"
    file.write_text('{"runner": "boat"}')
    with pytest.raises(BrokerError, match="must be a broker's state; got .*runner"):
        LocalBroker(own.run_dir)
    file.unlink()


def test_broker_that_was_never_started_has_no_address(own: LocalBroker) -> None:
    assert own.bootstrap is None
    assert not own.serving()
    own.stop()
    own.kill()
    own.wipe()


def test_broker_refuses_an_unknown_runner(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRINDSTONE_BROKER", "boat")
    with pytest.raises(BrokerError, match="GRINDSTONE_BROKER must be java or docker; got 'boat'"):
        LocalBroker(scratch / "unknown-runner")


@pytest.mark.parametrize("wanted", ["high", "0", "65536", "-1"])
def test_broker_refuses_a_port_that_is_none(
    wanted: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRINDSTONE_KAFKA_PORT", wanted)
    with pytest.raises(BrokerError, match=f"must be a port from 1 to 65535; got '{wanted}'"):
        LocalBroker(scratch / "no-port", runner="java")


@pytest.mark.integration
def test_broker_listens_on_the_port_that_is_set(
    own: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("GRINDSTONE_KAFKA_PORT", str(port))
    broker = LocalBroker(own.run_dir, runner="java")
    assert broker.start() == f"127.0.0.1:{port}"
    broker.wipe()


@pytest.mark.integration
def test_broker_that_cannot_start_shows_its_log(own: LocalBroker) -> None:
    data = own.run_dir / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\nnode.id=77\ncluster.id=x\n")
    with pytest.raises(BrokerError, match="(?s)ended.*node.id"):
        own.start()


def test_broker_command_shows_a_stopped_broker(
    scratch: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRINDSTONE_BROKER", "java")
    assert main(["status", "--run-dir", str(scratch / "nowhere")]) == 3
    assert capsys.readouterr().out == "- stopped\n"


def test_runner_kept_names_survive_a_round_trip(scratch: Path) -> None:
    name = ProcessName.of(os.getpid())
    assert name is not None
    assert name.alive()
    folder = scratch / "round-trip"
    folder.mkdir()
    (folder / "process.json").write_bytes(msgspec.json.encode(name))
    assert JavaRunner(folder).process() == name
    assert json.loads((folder / "process.json").read_text())["pid"] == os.getpid()
