"""The evaluator process: every registered version plays paired matches and is reported on.

Versions are taken in the order of their registration. Each is played on seeds of its own, which
are derived from its name, so the best of many is not the best on one lucky set of seeds. The
release fold draws the verdict; the next version waits for it, to be compared with the right
champion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
from aiokafka import AIOKafkaProducer

from agents.policies.artefact import PolicyError
from agents.policies.onnx_policy import OnnxPolicy
from games.champions import Follower, ModelRecord, ModelsFollower, load_version
from games.clock import Clock
from games.connectors import connector
from games.trials import Trials, decision_latency_p95_ms
from schemas.game import Game
from schemas.kafka import KafkaSettings
from schemas.model_events import (
    Champion,
    Evaluation,
    ModelEvent,
    Registered,
    Rejected,
    encode_model_event,
)
from schemas.starting import start
from schemas.topics import Topics

_log = structlog.get_logger(__name__)
_VERDICT_S = 10.0
"""How long the verdict on one version may keep the next one waiting."""

OnMetrics = Callable[[dict[str, float], dict[str, str]], None]
"""Takes values by name and labels by name."""


class EvaluatorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluator process is told beside the game's description."""

    models_dir: Path
    """The folder below which model events name theirs."""
    n_worlds: int = 64
    """Matches that are played at a time; changes speed, never results."""


class Publisher(Protocol):
    """Where evaluations go."""

    async def publish(self, event: Evaluation) -> None:
        """Returns once the log has it."""
        ...


class Backlog:
    """What the log says of the versions of one game: whose turn it is, who is champion."""

    def __init__(self, game: Game) -> None:
        self._models = {archetype.model for archetype in game.archetypes.values()}
        self._waiting: dict[tuple[str, str], Registered] = {}
        self._evaluated: set[tuple[str, str]] = set()
        self._judged: set[tuple[str, str]] = set()
        self.champions: dict[str, Champion] = {}
        """By model name."""

    def take(self, event: ModelEvent) -> None:
        """Takes the next event of the log; of other games' models nothing is kept."""
        if event.model not in self._models:
            return
        key = (event.model, event.version)
        if isinstance(event, Registered):
            if key not in self._evaluated:
                self._waiting.setdefault(key, event)
        elif isinstance(event, Evaluation):
            self._evaluated.add(key)
            self._waiting.pop(key, None)
        elif isinstance(event, Champion | Rejected):
            self._judged.add(key)
            if isinstance(event, Champion):
                self.champions[event.model] = event

    @property
    def n_waiting(self) -> int:
        """Versions registered and not evaluated."""
        return len(self._waiting)

    @property
    def unjudged(self) -> bool:
        """Whether a version is evaluated whose verdict has not come."""
        return bool(self._evaluated - self._judged)

    def next(self) -> Registered | None:
        """The version that was registered first of those that wait."""
        return next(iter(self._waiting.values()), None)


class Evaluator:
    """Plays the versions of a backlog one after the other."""

    def __init__(
        self,
        config: EvaluatorConfig,
        game: Game,
        clock: Clock,
        publisher: Publisher,
        on_metrics: OnMetrics,
    ) -> None:
        self._config = config
        self._game = game
        self._clock = clock
        self._publisher = publisher
        self._on_metrics = on_metrics
        self._backlog = Backlog(game)
        self._waiting_since = clock.monotonic()
        self._n_done = 0

    async def run(self, follower: Follower, stop_event: asyncio.Event) -> None:
        """Follows `models` and evaluates until told to stop."""
        async for records in follower.batches():
            if stop_event.is_set():
                return
            self.take(records)
            candidate = self._backlog.next()
            if candidate is None or self._must_wait():
                continue
            evaluation = await self.evaluate(candidate, stop_event)
            if evaluation is not None:
                await self._publisher.publish(evaluation)
                self.take([ModelRecord(evaluation, self._clock.now_ms())])
                self._waiting_since = self._clock.monotonic()

    def take(self, records: list[ModelRecord]) -> None:
        """Takes what the log says."""
        for record in records:
            self._backlog.take(record.event)

    async def evaluate(self, candidate: Registered, stop_event: asyncio.Event) -> Evaluation | None:
        """Plays a version; None when it was told to stop on the way.

        A version that cannot be played is reported with the reason in `error`.
        """
        before = self._clock.monotonic()
        champion = self._backlog.champions.get(candidate.model)
        trials = Trials(self._game, candidate.model, self._config.n_worlds)
        error, latency_ms = None, 0.0
        try:
            policy = await asyncio.to_thread(self._load, candidate)
            latency_ms = await asyncio.to_thread(
                decision_latency_p95_ms, policy, connector(self._game)
            )
            rival = None if champion is None else await asyncio.to_thread(self._rival, champion)
            for part in trials.parts(policy, rival):
                await asyncio.to_thread(part)
                if stop_event.is_set():
                    return None
        except PolicyError as refusal:
            error = str(refusal)
            _log.error("candidate.refused", version=candidate.version, reason=error)
        self._tell(candidate, self._clock.monotonic() - before)
        return Evaluation(
            model=candidate.model,
            version=candidate.version,
            time_ms=self._clock.now_ms(),
            game=self._game.name,
            matches=trials.matches,
            champion=None if champion is None else champion.version,
            latency_p95_ms=latency_ms,
            error=error,
        )

    def _must_wait(self) -> bool:
        elapsed = self._clock.monotonic() - self._waiting_since
        return self._backlog.unjudged and elapsed < _VERDICT_S

    def _load(self, event: Registered | Champion) -> OnnxPolicy:
        return load_version(event, self._game, self._config.models_dir)

    def _rival(self, champion: Champion) -> OnnxPolicy | None:
        """The champion's policy; None, and the fold will say so, when it is not to be had."""
        try:
            return self._load(champion)
        except PolicyError as refusal:
            _log.error("champion.refused", version=champion.version, reason=str(refusal))
            return None

    def _tell(self, candidate: Registered, seconds: float) -> None:
        self._n_done += 1
        values = {
            "evaluations": float(self._n_done),
            "evaluation_s": seconds,
            "candidates_waiting": float(self._backlog.n_waiting - 1),
        }
        self._on_metrics(values, {"version": candidate.version})


class KafkaPublisher:
    """Writes evaluations to `models`, each acknowledged by all replicas."""

    def __init__(self, producer: AIOKafkaProducer, topics: Topics) -> None:
        self._producer = producer
        self._topic = topics.models

    async def publish(self, event: Evaluation) -> None:
        """See `Publisher.publish`."""
        value, key = encode_model_event(event), event.model.encode()
        await self._producer.send_and_wait(self._topic, value, key=key)


async def run_evaluator(
    config: EvaluatorConfig,
    kafka: KafkaSettings,
    topics: Topics,
    game: Game,
    clock: Clock,
    stop_event: asyncio.Event,
    on_metrics: OnMetrics,
) -> None:
    """Evaluates every version that is registered until `stop_event`.

    What the log holds already is not done twice: a restarted evaluator reads it first.
    """
    producer = AIOKafkaProducer(
        **kafka.client(), client_id="grindstone-evaluator", enable_idempotence=True
    )
    try:
        await start(producer)
        publisher = KafkaPublisher(producer, topics)
        evaluator = Evaluator(config, game, clock, publisher, on_metrics)
        follower = ModelsFollower(kafka, topics, "grindstone-evaluator")
        await evaluator.run(follower, stop_event)
    finally:
        await producer.stop()
