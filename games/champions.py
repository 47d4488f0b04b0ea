"""Following `models`: every new champion, verified and loaded beside the game."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer

from agents.policies.artefact import PolicyError
from agents.policies.onnx_policy import OnnxPolicy
from schemas.game import Game
from schemas.kafka import KafkaSettings
from schemas.model_events import Champion, ModelEvent, Registered, decode_model_event
from schemas.starting import start
from schemas.topics import Topics

_log = structlog.get_logger(__name__)
_POLL_MS = 200
"""How long a poll waits; a record that comes sooner ends it."""


class ModelRecord(msgspec.Struct, frozen=True):
    """An event of `models` with the time at which the log took it (UTC milliseconds)."""

    event: ModelEvent
    appended_ms: int


class Follower(Protocol):
    """Where model events come from; tests hand in a list."""

    def batches(self) -> AsyncIterator[list[ModelRecord]]:
        """Yields what is new, in order; the first batch is all that the log held at the start.

        An empty batch says that nothing is left for now. Ends only when it is closed.
        """
        ...


class ModelsFollower:
    """Reads `models` from its beginning, committed records only, in no consumer group."""

    def __init__(self, kafka: KafkaSettings, topics: Topics, client_id: str) -> None:
        self._kafka = kafka
        self._topic = topics.models
        self._client_id = client_id

    async def batches(self) -> AsyncIterator[list[ModelRecord]]:
        """See `Follower.batches`; a broker that is away is waited for."""
        consumer = AIOKafkaConsumer(
            self._topic,
            **self._kafka.client(),
            client_id=self._client_id,
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        try:
            await start(consumer)
            yield await self._history(consumer)
            while True:
                yield self._records(await consumer.getmany(timeout_ms=_POLL_MS))
        finally:
            await consumer.stop()

    async def _history(self, consumer: AIOKafkaConsumer) -> list[ModelRecord]:
        """All records up to the log's end as it is now."""
        ends = await consumer.end_offsets(list(consumer.assignment()))
        found: list[ModelRecord] = []
        while True:
            polled = await consumer.getmany(timeout_ms=_POLL_MS)
            found += self._records(polled)
            # An end that is a transaction's mark is never a record: an empty poll settles it.
            if not polled or all([await consumer.position(p) >= e for p, e in ends.items()]):
                return found

    def _records(self, polled: Mapping[Any, list[Any]]) -> list[ModelRecord]:
        found = []
        for record in (r for records in polled.values() for r in records):
            try:
                event = decode_model_event(record.value)
            except msgspec.MsgspecError as error:
                where = f"{self._topic}/{record.partition}/{record.offset}"
                _log.error("models.refused", at=where, reason=str(error))
                continue
            found.append(ModelRecord(event, record.timestamp))
        return found


class LoadedChampion(msgspec.Struct, frozen=True):
    """A champion ready to play, with the former ones that are kept as opponents."""

    policy: OnnxPolicy
    earlier: list[OnnxPolicy]
    """Newest first."""
    appended_ms: int


class ChampionLoader:
    """Turns champion events of one model into policies; the loading runs in a thread.

    A champion that does not verify is refused, told through `on_refused`, and the last good one
    goes on.
    """

    def __init__(
        self,
        game: Game,
        model: str,
        models_dir: Path,
        epsilon: float,
        n_earlier: int,
        on_refused: Callable[[str, PolicyError], None],
    ) -> None:
        self._game = game
        self._model = model
        self._models_dir = models_dir
        self._epsilon = epsilon
        self._n_earlier = n_earlier
        self._on_refused = on_refused
        self._history: list[OnnxPolicy] = []

    async def take(self, records: list[ModelRecord]) -> LoadedChampion | None:
        """Returns the newest loadable champion among the records; None when there is none."""
        champions = [
            (record.event, record.appended_ms)
            for record in records
            if isinstance(record.event, Champion) and record.event.model == self._model
        ]
        newest = None
        for event, appended_ms in champions[-(self._n_earlier + 1) :]:
            try:
                policy = await asyncio.to_thread(self._load, event)
            except PolicyError as error:
                _log.error("champion.refused", version=event.version, reason=str(error))
                self._on_refused(event.version, error)
                continue
            earlier = [p for p in self._history if p.version != policy.version]
            self._history = [policy, *earlier][: self._n_earlier + 1]
            newest = LoadedChampion(policy, self._history[1:], appended_ms)
        return newest

    def _load(self, event: Champion) -> OnnxPolicy:
        return load_version(event, self._game, self._models_dir, self._epsilon)


def load_version(
    event: Registered | Champion, game: Game, models_dir: Path, epsilon: float = 0.0
) -> OnnxPolicy:
    """Returns the policy of a version as its event describes it.

    Raises PolicyError when the folder does not hold exactly what was announced, lies outside
    the models folder, or its graph is not for this game.
    """
    folder = (models_dir / event.folder).resolve()
    if not folder.is_relative_to(models_dir.resolve()):
        msg = f"{event.version}: folder must be below {models_dir}; got {event.folder!r}"
        raise PolicyError(msg)
    announced = {Path(file.path).name: file.sha256 for file in event.files}
    policy = OnnxPolicy.load(folder, epsilon, announced, version=event.version)
    return policy.require(game.observation.size, game.actions.n)
