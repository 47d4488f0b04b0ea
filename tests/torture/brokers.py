"""The brokers of a torture: one, or three that hold three copies of everything, two in sync."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path
from typing import Protocol

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError

from infra.kafka.broker import LocalBroker
from infra.kafka.java import JavaRunner
from infra.kafka.ports import free_ports
from infra.kafka.server import await_answer
from infra.kafka.wire import refusal

HOST = "127.0.0.1"
START_S = 120.0
CLUSTER_ID = "xGrindstoneTorture0000"
COPIES = """
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
log.cleaner.backoff.ms=2000
"""


class Brokers(Protocol):
    """What a torture does to its brokers."""

    n: int

    def start(self) -> str: ...
    def kill(self, node: int) -> None: ...
    def revive(self, node: int) -> None: ...
    def wipe(self) -> None: ...


class OneBroker:
    """A single broker, as `grindstone up` has it."""

    n = 1

    def __init__(self, folder: Path) -> None:
        self._own = LocalBroker(folder)

    def start(self) -> str:
        """Start it and return its address."""
        return self._own.start()

    def kill(self, node: int) -> None:
        """SIGKILL."""
        self._own.kill()

    def revive(self, node: int) -> None:
        """Start it again on the same data."""
        self._own.start()

    def wipe(self) -> None:
        """End it and remove its data."""
        self._own.wipe()


class _Node(JavaRunner):
    """One of three nodes, each broker and controller."""

    def __init__(self, folder: Path, node: int, voters: str) -> None:
        super().__init__(folder)
        self._node = node
        self._voters = voters

    def _write_properties(self, port: int, controller_port: int) -> Path:
        path = super()._write_properties(port, controller_port)
        ours = {line.partition("=")[0] for line in COPIES.split()}
        ours |= {"node.id", "controller.quorum.voters"}
        lines = path.read_text("utf-8").splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in ours]
        kept += [*COPIES.split(), f"node.id={self._node}"]
        path.write_text("\n".join([*kept, f"controller.quorum.voters={self._voters}", ""]), "utf-8")
        return path

    def _format(self, properties: Path) -> None:
        super()._format(properties)
        # Formatted as the one node of a cluster of its own: make it this node of the common one.
        directory = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22]
        text = (
            f"version=1\ncluster.id={CLUSTER_ID}\nnode.id={self._node}\n"
            f"directory.id={'x' + directory[1:]}\n"
        )
        (self.folder / "data" / "meta.properties").write_text(text, "utf-8")


class ThreeBrokers:
    """Three nodes on this machine; any one of them may be away."""

    n = 3

    def __init__(self, folder: Path) -> None:
        ports = free_ports(6)
        self._ports, controllers = ports[:3], ports[3:]
        self._controllers = controllers
        voters = ",".join(f"{i + 1}@{HOST}:{port}" for i, port in enumerate(controllers))
        self._nodes = [_Node(folder / f"node-{i + 1}", i + 1, voters) for i in range(3)]

    @property
    def bootstrap(self) -> str:
        """All three addresses."""
        return ",".join(f"{HOST}:{port}" for port in self._ports)

    def start(self) -> str:
        """Start all and return their addresses once all serve."""
        for i in range(3):
            self._nodes[i].launch(self._ports[i], self._controllers[i])
        for i in range(3):
            self._await(i)
        return self.bootstrap

    def kill(self, node: int) -> None:
        """SIGKILL one, by its id from 1."""
        self._nodes[node - 1].kill()

    def revive(self, node: int) -> None:
        """Start one again on its data, and wait until it serves."""
        self._nodes[node - 1].launch(self._ports[node - 1], self._controllers[node - 1])
        self._await(node - 1)

    def wipe(self) -> None:
        """End all and remove their data."""
        for node in self._nodes:
            node.kill()
        for node in self._nodes:
            node.wipe()

    def _await(self, i: int) -> None:
        who = f"node {i + 1} of three"
        await_answer(lambda: refusal(HOST, self._ports[i]), self._nodes[i], who, START_S)


async def leader_and_coordinator(
    bootstrap: str, topic: str, partition: int, transactional_id: str
) -> tuple[int, int]:
    """Return the nodes that lead a partition and coordinate a producer; 0: none just now."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap.split(","))
    try:
        await client.bootstrap()
        client.add_topic(topic)
        await client.force_metadata_update()
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition)) or 0
        coordinator = await client.coordinator_lookup(
            CoordinationType.TRANSACTION, transactional_id
        )
        return max(int(leader), 0), int(coordinator)
    except KafkaError:
        return 0, 0
    finally:
        await client.close()
