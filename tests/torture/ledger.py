"""The ledger under fire: a whole system at work, broken all the while, and then its proof."""

from __future__ import annotations

import asyncio
import platform
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from schemas.codec import encode_event
from schemas.database import DatabaseSettings
from schemas.events import Tick
from streams.admin import ensure_topics
from tests.torture.brokers import Brokers
from tests.torture.crew import Crew
from tests.torture.database import Database
from tests.torture.faults import Fault, Intensity, Tormentor, plan
from tests.torture.proof import Verdict, prove, verify_files
from tests.torture.roles import Place
from tests.torture.script import Play
from tests.torture.watch import Seen, load_seen, status_file

BLOCK_S = 7.5
"""Longer than the rebalance time-out of 6 s."""
BACK_MS = 3_600_000
"""Event time begins an hour ago, so that no event of a script is ahead of the log."""
FINISH_S = 180.0
COMPACTING = {
    "segment.ms": "8000",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "delete.retention.ms": "100",
}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a torture is asked for."""

    seed: int = 1
    decisions: int = 200_000
    rate: float = 900.0
    """Decisions a second, of all games together."""
    actors: int = 200
    intensity: Intensity = Intensity()
    game_processes: int = 2


class Report(msgspec.Struct, kw_only=True):
    """How a torture went; what is printed and kept."""

    seed: int
    brokers: int
    database: bool
    machine: str
    seconds: float
    faults: dict[str, int]
    """How often each thing was done, by what and to which kind of process."""
    least: dict[str, int]
    """The fewest times that any one process was killed, and paused."""
    moves: int
    """Partitions that went to the other rewards worker."""
    leaders: int
    coordinators: int
    exits: dict[str, int]
    """Ends that no fault asked for, by process and exit code: 75 is a zombie that was fenced."""
    verdict: Verdict

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled or changed."""
        return not self.verdict.problems


Tell = Callable[[str], None]


class LedgerTorture:
    """One run, with its own brokers, database and folder."""

    def __init__(
        self,
        request: Request,
        folder: Path,
        brokers: Brokers,
        database: Database | None,
        tell: Tell,
    ) -> None:
        self._request = request
        self._folder = folder
        self._brokers = brokers
        self._database = database
        self._tell = tell
        self._done: Counter[str] = Counter()

    def run(self) -> Report:
        """Return the report.

        Raises:
            BrokerError: a broker or the database does not start.
        """
        began = time.monotonic()
        self._tell("starts brokers" + (" and database" if self._database else ""))
        bootstrap = self._brokers.start()
        reach = self._database.start() if self._database is not None else None
        place = self._place(bootstrap, reach)
        crew = Crew(self._folder, self._folder / "place.json")
        tormentor = Tormentor(place, crew, self._brokers, self._database, self._on_fault)
        try:
            seen, problems = asyncio.run(self._torture(place, crew, tormentor))
        finally:
            crew.kill_all()
        self._tell("folds the log again, undisturbed, and compares")
        verdict = asyncio.run(prove(place, seen, self._database))
        verify_files(place, verdict)
        verdict.problems = problems + verdict.problems
        return self._report(crew, tormentor, verdict, time.monotonic() - began)

    def _place(self, bootstrap: str, database: DatabaseSettings | None) -> Place:
        request = self._request
        per_round = request.actors * request.game_processes
        place = Place(
            bootstrap=bootstrap,
            prefix=f"torture-{uuid.uuid4().hex[:6]}-",
            folder=str(self._folder),
            play=Play(
                seed=request.seed,
                games=request.game_processes,
                actors=request.actors,
                start_ms=int(time.time() * 1000) - BACK_MS,
            ),
            rounds=-(-request.decisions // per_round),
            rounds_per_s=request.rate / per_round,
            began_s=time.time() + 4.0,
            block_s=BLOCK_S,
            database=database,
        )
        (self._folder / "place.json").write_bytes(msgspec.json.encode(place))
        return place

    async def _torture(
        self, place: Place, crew: Crew, tormentor: Tormentor
    ) -> tuple[Seen, list[str]]:
        await self._make_topics(place)
        games = [f"game-{n}" for n in range(place.play.games)]
        roles = ["rewards-0", "rewards-1", "archiver-0", "archiver-1", *games]
        if self._database is not None:
            roles.append("sink-0")
        for role in ["watch", *roles]:
            crew.start(role)
        lanes = plan(
            place.play.seed,
            roles,
            self._request.intensity,
            self._brokers.n,
            database=self._database is not None,
        )
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(crew.supervise()),
                group.create_task(self._show(place, lanes)),
            ]
            await tormentor.run(lanes)
            place.stop_file.touch()
            self._tell("no more faults; the games end")
            problems = await self._finish(place, crew, set(games))
            for helper in helpers:
                helper.cancel()
        left = [role for role in ["watch", *roles] if role not in crew.done]
        await asyncio.gather(*(crew.stop(role) for role in left))
        return load_seen(place.folder), problems

    async def _make_topics(self, place: Place) -> None:
        if self._brokers.n > 1:
            await _make_compacting(place, place.topics.changelog("rewards"))
        await ensure_topics(place.kafka, place.topics.specs(place.play.partitions))

    async def _finish(self, place: Place, crew: Crew, games: set[str]) -> list[str]:
        """Let the games end, then let event time go on until all is settled and stored."""
        until = time.monotonic() + FINISH_S + place.rounds / place.rounds_per_s
        while not games <= crew.done:
            if time.monotonic() > until:
                return [f"games must end; still there: {sorted(games - crew.done)}"]
            await asyncio.sleep(0.2)
        calm_since = time.monotonic()
        rows = -1
        while time.monotonic() < calm_since + FINISH_S:  # slow is not lost: rows still come
            await _tick(place)
            await asyncio.sleep(0.5)
            seen = load_seen(place.folder)
            if seen.rows != rows:
                rows, calm_since = seen.rows, time.monotonic()
            settled = len(seen.open) == place.play.partitions and not any(seen.open.values())
            stored = self._database is None or self._database.count() == seen.rows
            # 5 s without a row: the span after which windows are sealed, and some more
            calm = time.monotonic() - calm_since > 5.0
            if settled and calm and seen.window_rows == seen.rows and stored:
                return []
        seen = load_seen(place.folder)
        return [f"all must be settled and stored; no row came for {FINISH_S:.0f} s, at {seen}"]

    async def _show(self, place: Place, lanes: dict[str, list[Fault]]) -> None:
        n = sum(len(lane) for lane in lanes.values())
        while True:
            await asyncio.sleep(5.0)
            seen = load_seen(place.folder) if status_file(place.folder).exists() else Seen()
            self._tell(
                f"{seen.settled:,} of {self._request.decisions:,} decisions settled, "
                f"{self._done.total()} of {n} faults"
            )

    def _on_fault(self, fault: Fault) -> None:
        self._done[fault.what] += 1

    def _report(self, crew: Crew, tormentor: Tormentor, verdict: Verdict, seconds: float) -> Report:
        intensity = self._request.intensity
        faults = {f"{what} {kind}".strip(): n for (what, kind), n in tormentor.done.items()}
        return Report(
            seed=self._request.seed,
            brokers=self._brokers.n,
            database=self._database is not None,
            machine=f"{platform.machine()}, Python {platform.python_version()}",
            seconds=round(seconds, 1),
            faults=dict(sorted(faults.items())),
            least={"kill": intensity.kills, "pause": intensity.pauses},
            moves=crew.moves(),
            leaders=tormentor.leaders,
            coordinators=tormentor.coordinators,
            exits=dict(sorted(crew.exits.items())),
            verdict=verdict,
        )


async def _tick(place: Place) -> None:
    """Move event time to now in every partition."""
    producer = AIOKafkaProducer(**place.kafka.client())
    try:
        await producer.start()
        tick = encode_event(Tick(event_time_ms=int(time.time() * 1000), source="torture"))
        for partition in range(place.play.partitions):
            await producer.send_and_wait(place.topics.game_events, tick, partition=partition)
    except KafkaError:
        return  # the next one will do
    finally:
        await producer.stop()


async def _make_compacting(place: Place, changelog: str) -> None:
    """Make the changelog so that it is compacted every few seconds."""
    admin = AIOKafkaAdminClient(**place.kafka.client())
    await admin.start()
    try:
        config = {"cleanup.policy": "compact", **COMPACTING}
        topic = NewTopic(changelog, place.play.partitions, 3, topic_configs=config)
        await admin.create_topics([topic])
    finally:
        await admin.close()
