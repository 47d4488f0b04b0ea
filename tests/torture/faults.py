"""What is broken, how often, and in which order: drawn by seed, done in lanes side by side."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from infra.kafka.errors import BrokerError
from tests.torture.brokers import Brokers, leader_and_coordinator
from tests.torture.crew import Crew
from tests.torture.database import Database
from tests.torture.roles import Place
from tests.torture.watch import load_seen

PAUSE_S = 5.5
"""Longer than the session of 4 s: whoever is silent so long has lost its partitions."""
SETTLE_S = 2.0
"""A process is broken only when it is so old: it has loaded, joined and begun to work."""
BUSY_ROWS = 100
BUSY_S = 45.0


class Intensity(msgspec.Struct, frozen=True, kw_only=True):
    """How often each thing happens; processes by kind, each process of it as often."""

    kills: int = 10
    pauses: int = 10
    leaves: int = 2
    """Clean stops of rewards workers and archivers: partitions move without a death."""
    blocks: int = 2
    """Of the first rewards worker's event loop."""
    brokers: int = 3
    """Each broker is killed so often."""
    databases: int = 3


class Fault(msgspec.Struct, frozen=True):
    """One fault."""

    what: str
    target: str


def plan(
    seed: int, roles: Sequence[str], intensity: Intensity, n_brokers: int, *, database: bool
) -> dict[str, list[Fault]]:
    """Return the faults of each lane, in the order in which they are done."""
    lanes: dict[str, list[Fault]] = {}
    for role in roles:
        kind = role.partition("-")[0]
        lane = lanes.setdefault(kind, [])
        lane += [Fault("kill", role)] * intensity.kills
        lane += [Fault("pause", role)] * intensity.pauses
        if kind in ("rewards", "archiver"):
            lane += [Fault("leave", role)] * intensity.leaves
        if role == "rewards-0":
            lane += [Fault("block", role)] * intensity.blocks
    rounds = range(intensity.brokers)
    lanes["broker"] = [Fault("broker", f"{n + 1}") for _ in rounds for n in range(n_brokers)]
    if database:
        lanes["database"] = [Fault("database", "")] * intensity.databases
    draw = random.Random(seed)
    for lane in lanes.values():
        draw.shuffle(lane)
    return lanes


class Tormentor:
    """Does the faults of a plan."""

    def __init__(
        self,
        place: Place,
        crew: Crew,
        brokers: Brokers,
        database: Database | None,
        on_fault: Callable[[Fault], None],
    ) -> None:
        self._place = place
        self._crew = crew
        self._brokers = brokers
        self._database = database
        self._on_fault = on_fault
        self.done: Counter[tuple[str, str]] = Counter()
        """By fault and kind of process."""
        self.coordinators = 0
        self.leaders = 0
        """Broker kills that hit the leader of a partition, or the coordinator of its producer."""

    async def run(self, lanes: dict[str, list[Fault]]) -> None:
        """Do all lanes side by side; each fault waits until the system works."""
        async with asyncio.TaskGroup() as group:
            for name, lane in lanes.items():
                group.create_task(
                    self._lane(lane, random.Random(f"{self._place.play.seed}/{name}"))
                )

    async def _lane(self, lane: list[Fault], draw: random.Random) -> None:
        for fault in lane:
            if fault.what in ("broker", "database"):
                await asyncio.sleep(8 + 8 * draw.random())
            else:
                await asyncio.sleep(0.5 * draw.random())
                await self._until_old(fault.target)
            await self._until_busy()
            self._on_fault(fault)
            await self._do(fault, draw)
            self.done[fault.what, fault.target.partition("-")[0]] += 1

    async def _do(self, fault: Fault, draw: random.Random) -> None:
        crew, target = self._crew, fault.target
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": lambda: crew.kill(target, draw.random()),
            "pause": lambda: crew.pause(target, PAUSE_S),
            "block": lambda: crew.block(target, self._place.block_s),
            "leave": lambda: crew.leave(target),
            "broker": lambda: self._break_broker(int(target), 4 * draw.random()),
            "database": self._break_database,
        }
        await acts[fault.what]()

    async def _break_broker(self, turn: int, away_s: float) -> None:
        """Kill a broker: of three, the coordinator of a partition's producer, or its leader."""
        node, brokers = turn, self._brokers
        if brokers.n > 1:
            partition = (sum(self.done.values()) + turn) % self._place.play.partitions
            topics = self._place.topics
            leader, coordinator = await leader_and_coordinator(
                self._place.bootstrap,
                topics.game_events,
                partition,
                f"{topics.prefix}rewards-{partition}",
            )
            wanted = coordinator if self.coordinators <= self.leaders else leader
            node = wanted or turn
            self.coordinators += node == coordinator
            self.leaders += node == leader
        await asyncio.to_thread(brokers.kill, node)
        await asyncio.sleep(away_s)
        try:
            await asyncio.to_thread(brokers.revive, node)
        except BrokerError:  # a loaded machine: once more, then it is a failure of the torture
            await asyncio.to_thread(brokers.kill, node)
            await asyncio.to_thread(brokers.revive, node)

    async def _break_database(self) -> None:
        if self._database is not None:
            await asyncio.to_thread(self._database.stop_immediately)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(self._database.start)

    async def _until_old(self, role: str) -> None:
        until = time.monotonic() + BUSY_S
        while self._crew.age_s(role) < SETTLE_S and time.monotonic() < until:
            await asyncio.sleep(0.1)

    async def _until_busy(self) -> None:
        """Wait until experiences come, so that faults hit work; in vain only for so long."""
        before, until = load_seen(self._place.folder).rows, time.monotonic() + BUSY_S
        while load_seen(self._place.folder).rows < before + BUSY_ROWS:
            if time.monotonic() > until:
                return
            await asyncio.sleep(0.2)
