"""The game and the evaluator as processes run them, over a real broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from games.clock import SystemClock
from games.evaluator import EvaluatorConfig, run_evaluator
from games.live import GameConfig, run_game
from schemas.codec import decode_record
from schemas.events import Decision, Outcome
from schemas.game import Game, Gate, load_game
from schemas.kafka import KafkaSettings
from schemas.model_events import (
    Evaluation,
    ModelEvent,
    Registered,
    decode_model_event,
    encode_model_event,
)
from schemas.topics import Topics
from streams.admin import ensure_topics
from tests.games.fakes import champion, model_folder, registered
from tests.games.nets import battle_graph, write_model
from tests.support import eventually_async

pytestmark = pytest.mark.integration

DESCRIPTION = Path(__file__).parents[2] / "games" / "battle" / "battle.toml"
Told = list[tuple[dict[str, float], dict[str, str]]]


class Place:
    """A broker, the test's topics, a models folder and what the process told."""

    def __init__(self, broker: str, prefix: str, models: Path) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=broker)
        self.topics = Topics(prefix)
        self.models = models
        self.told: Told = []
        self.stop = asyncio.Event()

    async def prepare(self) -> None:
        await ensure_topics(self.kafka, self.topics.specs(2))

    def on_metrics(self, values: dict[str, float], labels: dict[str, str]) -> None:
        self.told.append((values, labels))

    async def announce(self, *events: ModelEvent | bytes) -> None:
        producer = AIOKafkaProducer(**self.kafka.client())
        await producer.start()
        for event in events:
            value = event if isinstance(event, bytes) else encode_model_event(event)
            await producer.send_and_wait(self.topics.models, value, key=b"battle-pack")
        await producer.stop()

    async def values(self, topic: str) -> list[bytes]:
        """All committed records of a topic."""
        consumer = AIOKafkaConsumer(
            topic,
            **self.kafka.client(),
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        found: list[bytes] = []
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while any([await consumer.position(p) < end for p, end in ends.items()]):
            polled = await consumer.getmany(timeout_ms=200)
            found += [r.value for records in polled.values() for r in records if r.value]
        await consumer.stop()
        return found

    async def evaluations(self) -> list[Evaluation]:
        events = []
        for value in await self.values(self.topics.models):
            try:
                event = decode_model_event(value)
            except msgspec.MsgspecError:
                continue
            if isinstance(event, Evaluation):
                events.append(event)
        return events


def game(**settings: float) -> Game:
    shipped = load_game(DESCRIPTION)
    gate = Gate(matches=4, confirm_matches=4, head_to_head=0)
    held = {**shipped.settings, "worlds": 4, **settings}
    return msgspec.structs.replace(shipped, gate=gate, settings=held)


def test_game_swaps_champions_without_a_dropped_decision(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> Place:
        place = Place(broker, topics_prefix, tmp_path)
        await place.prepare()
        files = {
            v: write_model(model_folder(tmp_path, v), battle_graph(k))
            for k, v in enumerate(["v0001", "v0002", "v0003"])
        }
        (model_folder(tmp_path, "v0002") / "model.onnx").write_bytes(b"corrupt")

        def saw(name: str) -> bool:
            return any(labels.get("version") == name for _, labels in place.told)

        async def live() -> None:
            await asyncio.sleep(0)
            await eventually_async(lambda: _now(bool(place.told)), what="the first metrics")
            for version in files:
                await place.announce(b"{", champion(version, files[version]).event)
                await eventually_async(lambda v=version: _now(saw(v)), what=version)  # type: ignore[misc]
            place.stop.set()

        await asyncio.gather(
            run_game(
                GameConfig(models_dir=tmp_path, seed=5),
                place.kafka,
                place.topics,
                game(decisions_per_second=400),
                SystemClock(),
                place.stop,
                place.on_metrics,
            ),
            live(),
        )
        return place

    place = asyncio.run(scenario())
    events = [
        e for v in asyncio.run(place.values(place.topics.game_events)) for e in decode_record(v)
    ]
    decided = Counter(e.decision_id for e in events if isinstance(e, Decision))
    answered = Counter(e.decision_id for e in events if isinstance(e, Outcome))
    assert decided == answered
    assert set(decided.values()) == {1}
    last, _ = place.told[-1]
    assert last["decisions"] == len(decided)
    assert {e.policy_version for e in events if isinstance(e, Decision)} == {
        "scripted",
        "v0001",
        "v0003",
    }
    refusals = [labels["reason"] for values, labels in place.told if "reason" in labels]
    assert len(refusals) == 1
    assert "v0002/model.onnx must be" in refusals[0]
    assert [labels["version"] for values, labels in place.told if "swap_ms" in values] == [
        "v0001",
        "v0003",
    ]


def test_evaluator_reports_each_version_once_over_a_restart(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    def version(name: str) -> Registered:
        record = registered(name, write_model(model_folder(tmp_path, name), battle_graph()))
        assert isinstance(record.event, Registered)
        return record.event

    async def evaluate(place: Place, n: int) -> None:
        place.stop = asyncio.Event()

        async def wait() -> None:
            async def enough() -> bool:
                return len(await place.evaluations()) >= n

            await eventually_async(enough, what=f"{n} evaluations")
            place.stop.set()

        config = EvaluatorConfig(models_dir=tmp_path)
        await asyncio.gather(
            run_evaluator(
                config,
                place.kafka,
                place.topics,
                game(),
                SystemClock(),
                place.stop,
                place.on_metrics,
            ),
            wait(),
        )

    async def scenario() -> list[Evaluation]:
        place = Place(broker, topics_prefix, tmp_path)
        await place.prepare()
        first, second = version("v0001"), version("v0002")
        (model_folder(tmp_path, "v0002") / "weights.safetensors").write_bytes(b"corrupt")
        await place.announce(first, b"no event at all")
        await evaluate(place, 1)
        await place.announce(champion("v0001", first.files).event, second)
        await evaluate(place, 2)
        return await place.evaluations()

    one, other = asyncio.run(scenario())
    assert (one.version, other.version) == ("v0001", "v0002")
    assert one.error is None
    assert other.error is not None
    assert "weights.safetensors must be" in other.error


async def _now(value: bool) -> bool:
    return value
