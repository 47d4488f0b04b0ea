"""Starts workers, feeds them, breaks them by plan, and waits until all input is answered."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.kafka import KafkaSettings
from schemas.topics import TopicSpec
from streams.admin import ensure_topics
from tests.torture.counting import ANSWER, settings
from tests.torture.oracle import Verdict, judge

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
AWAY_S = 7.0
"""Longer than the workers' session of 6 s: whoever is silent so long has lost its partitions."""
BUSY_ANSWERS = 100
"""A worker is broken only after it has written so many answers since the fault before."""


class Step(msgspec.Struct, frozen=True):
    """One fault, done to a worker while it works.

    ``kill``: SIGKILL. ``stop``: SIGSTOP, and SIGCONT when its session is over. ``block``: its event
    loop, for as long. ``leave``: SIGTERM. ``broker``: the broker is killed and started again.
    """

    what: str
    worker: int = 0


class Report(msgspec.Struct, kw_only=True):
    """How a run went."""

    seed: int
    seconds: float
    verdict: Verdict
    steps: list[str]
    exits: list[tuple[int, int]]
    """Worker and exit code of each end that no step asked for: fenced zombies, mostly."""
    stop_s: list[float]
    """How long each clean stop took."""


class Torture:
    """Two or more workers of one application, and a supervisor that restarts what dies."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        folder: Path,
        *,
        seed: int = 1,
        workers: int = 2,
        break_broker: Callable[[], None] | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._folder = folder
        self._seed = seed
        self._random = random.Random(seed)
        self._n_workers = workers
        self._break_broker = break_broker
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._held: set[int] = set()
        self._exits: list[tuple[int, int]] = []
        self._stop_s: list[float] = []
        self._answers: Counter[int] = Counter()
        self._answered = asyncio.Condition()
        self._produced = 0

    async def run(self, plan: Sequence[Step], *, backlog: int, rate: float) -> Report:
        """Feed `backlog` records at once, then `rate` a second until the plan is through."""
        started = time.monotonic()
        app = settings(self._prefix)
        await self._make_topics()
        await self._produce(app.source, lambda: self._produced < backlog, rate=0.0)
        through = asyncio.Event()
        helpers = [asyncio.create_task(c) for c in (self._supervise(), self._follow())]
        try:
            live = asyncio.create_task(
                self._produce(app.source, lambda: not through.is_set(), rate)
            )
            for step in plan:
                await self._until_busy(step.worker)
                await asyncio.sleep(self._random.random())
                await self._do(step)
            through.set()
            await live
            await self._until(lambda: self._answers.total() >= self._produced, 120.0)
            helpers[0].cancel()
            await asyncio.gather(*(self._leave(n) for n in list(self._running)))
        finally:
            for helper in helpers:
                helper.cancel()
            for process in self._running.values():
                process.kill()
                process.wait()
        return Report(
            seed=self._seed,
            seconds=round(time.monotonic() - started, 1),
            verdict=await judge(self._bootstrap, self._prefix, PARTITIONS),
            steps=[f"{step.what} {step.worker}" for step in plan],
            exits=self._exits,
            stop_s=self._stop_s,
        )

    async def _make_topics(self) -> None:
        app = settings(self._prefix)
        specs = [
            TopicSpec(name=app.source, partitions=PARTITIONS, cleanup="delete"),
            TopicSpec(name=app.outputs[0], partitions=PARTITIONS, cleanup="delete"),
            TopicSpec(name=app.changelog, partitions=PARTITIONS, cleanup="compact"),
        ]
        await ensure_topics(KafkaSettings(bootstrap_servers=self._bootstrap), specs)

    def _start(self, n: int) -> None:
        mode = "faust" if n % 2 else "direct"
        with (self._folder / f"worker-{n}.log").open("ab") as log:
            self._running[n] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.torture.worker"),
                    *(self._bootstrap, self._prefix, mode, str(AWAY_S)),
                ],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    async def _supervise(self) -> None:
        for n in range(self._n_workers):
            self._start(n)
        while True:
            for n, process in list(self._running.items()):
                if n not in self._held and process.poll() is not None:
                    self._exits.append((n, process.returncode))
                    self._start(n)
            await asyncio.sleep(0.2)

    async def _do(self, step: Step) -> None:
        n = step.worker
        process = self._running[n]
        if step.what == "broker":
            if self._break_broker is not None:
                await asyncio.to_thread(self._break_broker)
        elif step.what == "block":
            process.send_signal(signal.SIGUSR1)
            await asyncio.sleep(AWAY_S)
        elif step.what == "stop":
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(AWAY_S)
            process.send_signal(signal.SIGCONT)
        elif step.what == "kill":
            self._held.add(n)
            process.kill()
            process.wait()
            await asyncio.sleep(self._random.random() * 2)
            self._start(n)
            self._held.discard(n)
        elif step.what == "leave":
            await self._leave(n)
            self._start(n)

    async def _leave(self, n: int) -> None:
        """Stop a worker cleanly and note how long that takes."""
        process = self._running.pop(n)
        since = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, 20)
        self._stop_s.append(round(time.monotonic() - since, 2))
        if code not in (0, -signal.SIGTERM):  # the latter: it had only just been started
            self._exits.append((n, code))

    async def _until_busy(self, n: int) -> None:
        """Wait until a worker has written answers since now; it may die meanwhile and come back."""
        before = Counter(self._answers)

        def busy() -> bool:
            process = self._running.get(n)
            pid = process.pid if process is not None else 0
            return self._answers[pid] >= before[pid] + BUSY_ANSWERS

        await self._until(busy, 40.0)

    async def _until(self, condition: Callable[[], bool], limit_s: float) -> None:
        """Wait for answers until the condition holds; the oracle says what is wrong if not."""
        try:
            async with asyncio.timeout(limit_s), self._answered:
                await self._answered.wait_for(condition)
        except TimeoutError:
            print(f"waited {limit_s} s in vain", file=sys.stderr)

    async def _produce(self, topic: str, more: Callable[[], bool], rate: float) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, enable_idempotence=True, linger_ms=5
        )
        await producer.start()
        try:
            started, first, sent = time.monotonic(), self._produced, []
            while more():
                key = b"k%05d" % self._random.randrange(400)
                partition = zlib.crc32(key) % PARTITIONS
                sent.append(await producer.send(topic, b"%d" % self._produced, key, partition))
                self._produced += 1
                early = started + (self._produced - first) / rate - time.monotonic() if rate else 0
                if early > 0.02:
                    await asyncio.sleep(early)
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    async def _follow(self) -> None:
        """Count the answers of each process as they become readable."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            topic = settings(self._prefix).outputs[0]
            consumer.assign([TopicPartition(topic, p) for p in range(PARTITIONS)])
            while True:
                got = await consumer.getmany(timeout_ms=500)
                async with self._answered:
                    for records in got.values():
                        self._answers.update(ANSWER.unpack(r.value)[3] for r in records)
                    self._answered.notify_all()
        finally:
            await consumer.stop()


def random_plan(seed: int, n: int, *, with_broker: bool) -> list[Step]:
    """Return `n` faults drawn by seed."""
    draw = random.Random(seed)
    kinds = ["kill", "kill", "stop", "block", "leave", *(["broker"] if with_broker else [])]
    return [Step(draw.choice(kinds), draw.randrange(2)) for _ in range(n)]
