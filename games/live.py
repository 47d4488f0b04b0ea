"""The game process: live matches, decided by the champion of the moment, told to Kafka."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from agents.policies.artefact import PolicyError
from agents.policies.choice import Policy
from games.champions import ChampionLoader, Follower, LoadedChampion, ModelsFollower
from games.clock import Clock
from games.connectors import connector
from games.match import LiveMatches, Step
from schemas.events import ActorEvent
from schemas.game import Game
from schemas.kafka import KafkaSettings
from schemas.topics import Topics
from streams.writer import EventWriter, Protect, WriterSettings

_log = structlog.get_logger(__name__)
LINGER_MS = 60.0
"""One step of all worlds at the default pace: a pack a partition and step."""
_METRICS_EVERY_S = 1.0
_FIRST_CHAMPION_S = 5.0
"""How long the first step waits for the champion that the log may hold already."""
_LAST_STEP_S = 2.0
_CLOSE_S = 5.0
"""How long the last events may take to be acknowledged; a stop is over within ten seconds."""

OnMetrics = Callable[[dict[str, float], dict[str, str]], None]
"""Takes values by name and labels by name."""


class Writer(Protocol):
    """Where events go; waits while it has no room."""

    async def send(self, event: ActorEvent) -> None:
        """Takes an event."""
        ...


class GameConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a game process is told beside the game's description."""

    models_dir: Path
    """The folder below which champion events name theirs."""
    seed: int = 1
    incarnation: str = ""
    """Part of every id; new for each start of the process. Drawn at random when empty."""
    protect: Protect | None = None
    """What the writer does to events before the log; needed where a description has `privacy`."""


class Swap(msgspec.Struct, frozen=True):
    """A version came to act."""

    version: str
    latency_ms: float
    """From the event's append to `models` to the version's decision in the last of the worlds."""


class LiveGame:
    """Paces the matches, swaps the policy between two steps and counts what happens."""

    def __init__(
        self, matches: LiveMatches, writer: Writer, clock: Clock, rate: float, on_metrics: OnMetrics
    ) -> None:
        self._matches = matches
        self._writer = writer
        self._clock = clock
        self._rate = rate
        self._on_metrics = on_metrics
        self._pending: LoadedChampion | None = None
        self._announced: tuple[str, int, set[int]] | None = None
        self._counts: Counter[str] = Counter()
        self._waited_s = 0.0
        self._told_at = clock.monotonic()
        self._told_decisions = 0
        self.swaps: list[Swap] = []

    def offer(self, champion: LoadedChampion) -> None:
        """Names the policy that decides from the next step on."""
        self._pending = champion

    def refused(self, version: str, error: PolicyError) -> None:
        """Counts a champion that did not verify and tells it at once."""
        self._counts["models_refused"] += 1
        values = {"models_refused": float(self._counts["models_refused"])}
        self._on_metrics(values, {"version": version, "reason": str(error)})

    async def run(self, stop_event: asyncio.Event) -> None:
        """Plays until told to stop, never faster than the rate."""
        due = self._clock.monotonic()
        while not stop_event.is_set():
            n_decisions = await self.step()
            now = self._clock.monotonic()
            # Time lost is not caught up: a burst would take the learner's share of the machine.
            due = max(due + n_decisions / self._rate, now)
            await self._clock.sleep(due - now)
        self._tell(self._clock.monotonic())

    async def step(self) -> int:
        """One step of every world; returns how many decisions were ours."""
        self._swap()
        step = self._matches.step(self._clock.now_ms())
        before = self._clock.monotonic()
        for event in step.events:
            await self._writer.send(event)
        now = self._clock.monotonic()
        self._waited_s += now - before
        self._count(step)
        self._note_swap(step)
        if now - self._told_at >= _METRICS_EVERY_S:
            self._tell(now)
        return step.n_decisions

    def _swap(self) -> None:
        champion, self._pending = self._pending, None
        if champion is None:
            return
        earlier: list[Policy] = [*champion.earlier]
        self._matches.policy, self._matches.earlier = champion.policy, earlier
        self._announced = (champion.policy.version, champion.appended_ms, set())

    def _note_swap(self, step: Step) -> None:
        if self._announced is None or self._announced[0] != step.policy_version:
            return
        version, appended_ms, covered = self._announced
        covered.update(step.worlds)
        if len(covered) == self._matches.n_worlds:
            swap = Swap(version, float(self._clock.now_ms() - appended_ms))
            self._announced = None
            self.swaps.append(swap)
            _log.info("policy.acts", version=version, swap_ms=swap.latency_ms)
            self._on_metrics({"swap_ms": swap.latency_ms}, {"version": version})

    def _count(self, step: Step) -> None:
        self._counts["decisions"] += step.n_decisions
        for end in step.ended:
            self._counts["matches"] += 1
            self._counts[f"{end.result}_{_kind(end.opponent_id)}"] += 1

    def _tell(self, now: float) -> None:
        seconds = max(now - self._told_at, 1e-9)
        n_new = self._counts["decisions"] - self._told_decisions
        values = {name: float(n) for name, n in self._counts.items()}
        values.setdefault("matches", 0.0)
        values["decisions_per_second"] = n_new / seconds
        values["writer_wait_s"] = self._waited_s
        values["swaps"] = float(len(self.swaps))
        self._told_at, self._told_decisions = now, self._counts["decisions"]
        self._on_metrics(values, {"version": self._matches.policy.version})


async def run_game(
    config: GameConfig,
    kafka: KafkaSettings,
    topics: Topics,
    game: Game,
    clock: Clock,
    stop_event: asyncio.Event,
    on_metrics: OnMetrics,
) -> None:
    """Plays a game until `stop_event`; every event is in Kafka when it returns.

    Raises SchemaError when the description fits no game that can be played here, and what the
    writer or the follower raise: a process that cannot say what happened must end.
    """
    played = connector(game)
    settings = played.settings(game)
    incarnation = config.incarnation or secrets.token_hex(4)
    matches = played.live(game, config.seed, incarnation)
    writer = EventWriter(kafka, topics, WriterSettings(linger_ms=LINGER_MS), config.protect)
    await writer.start()
    try:
        live = LiveGame(matches, writer, clock, settings.decisions_per_second, on_metrics)
        loader = ChampionLoader(
            game=game,
            model=game.archetypes[played.archetype].model,
            models_dir=config.models_dir,
            epsilon=settings.epsilon,
            n_earlier=settings.earlier_versions,
            on_refused=live.refused,
        )
        follower = ModelsFollower(kafka, topics, f"grindstone-game-{incarnation}")
        await play_and_follow(live, follower, loader, stop_event)
    finally:
        await writer.close(_CLOSE_S)


async def play_and_follow(
    live: LiveGame, follower: Follower, loader: ChampionLoader, stop_event: asyncio.Event
) -> None:
    """Runs the game beside the following of `models`; the end of either ends both.

    A game that waits for room in the writer when it is told to stop is left after two seconds.
    """
    caught_up = asyncio.Event()

    async def follow() -> None:
        async for records in follower.batches():
            champion = await loader.take(records)
            if champion is not None:
                live.offer(champion)
            caught_up.set()

    following = asyncio.create_task(follow(), name="follow-models")
    waiting = asyncio.create_task(caught_up.wait())
    await asyncio.wait(
        {following, waiting}, timeout=_FIRST_CHAMPION_S, return_when=asyncio.FIRST_COMPLETED
    )
    waiting.cancel()
    playing = asyncio.create_task(live.run(stop_event), name="play")
    stopping = asyncio.create_task(stop_event.wait())
    tasks: set[asyncio.Task[Any]] = {following, playing, stopping}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            await asyncio.wait({playing}, timeout=_LAST_STEP_S)
        for task in (following, playing):
            if task.done():
                task.result()  # raises what ended it
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _kind(opponent_id: str) -> str:
    """What an opponent is counted as."""
    return opponent_id if opponent_id in ("scripted", "random") else "earlier"
