"""The arena played and judged by the processes that play every game, over a real broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from games.arena import rules
from games.arena.rewards import described
from games.clock import SystemClock
from games.evaluator import EvaluatorConfig, run_evaluator
from games.live import GameConfig, run_game
from schemas.codec import decode_record
from schemas.events import Decision, Outcome
from schemas.game import Game, Gate, check_against_game
from schemas.model_events import Registered
from schemas.records import WindowFile
from tests.games.fakes import champion, registered
from tests.games.nets import linear_graph, write_model
from tests.games.test_processes import Place
from tests.support import eventually_async

pytestmark = pytest.mark.integration

MODEL = "arena-aggressive"


def game() -> Game:
    shipped = described()
    settings = {
        **shipped.settings,
        "worlds": 6,
        "champion_worlds": 0,
        "decisions_per_second": 1_200.0,
    }
    gate = Gate(matches=4, confirm_matches=4, head_to_head=0)
    return msgspec.structs.replace(shipped, gate=gate, settings=settings)


def version(models: Path, name: str) -> list[WindowFile]:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(rules.FEATURES, len(rules.ACTION_NAMES))).astype(np.float32)
    return write_model(models / MODEL / name, linear_graph(weights))


def test_champion_takes_its_archetypes_packs_and_no_others(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> Place:
        place = Place(broker, topics_prefix, tmp_path)
        await place.prepare()
        files = version(tmp_path, "v0001")

        def swapped() -> bool:
            return any("swap_ms" in values for values, _ in place.told)

        async def live() -> None:
            await eventually_async(lambda: _now(bool(place.told)), what="the first metrics")
            folder = f"{MODEL}/v0001"
            await place.announce(champion("v0001", files, model=MODEL, folder=folder).event)
            await eventually_async(lambda: _now(swapped()), what="the champion at play")
            place.stop.set()

        playing = run_game(
            GameConfig(models_dir=tmp_path, seed=5),
            place.kafka, place.topics, game(), SystemClock(), place.stop, place.on_metrics,
        )  # fmt: skip
        await asyncio.gather(playing, live())
        return place

    place = asyncio.run(scenario())
    told = asyncio.run(place.values(place.topics.game_events))
    events = [e for value in told for e in decode_record(value)]
    for event in events:
        check_against_game(event, {"arena": game()})  # type: ignore[arg-type]
    decided = [e for e in events if isinstance(e, Decision)]
    answered = Counter(e.decision_id for e in events if isinstance(e, Outcome))
    assert Counter(e.decision_id for e in decided) == answered
    led = {(e.archetype, e.domain) for e in decided if e.policy_version == "v0001"}
    assert led == {("aggressive", head) for head in ("combat", "movement", "skill")}


def test_evaluator_plays_a_version_against_the_traditional_ai(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> Place:
        place = Place(broker, topics_prefix, tmp_path)
        await place.prepare()
        event = registered("v0001", version(tmp_path, "v0001"), MODEL).event
        assert isinstance(event, Registered)
        await place.announce(msgspec.structs.replace(event, game="arena", archetype="aggressive"))

        async def wait() -> None:
            async def done() -> bool:
                return bool(await place.evaluations())

            await eventually_async(done, what="an evaluation")
            place.stop.set()

        judging = run_evaluator(
            EvaluatorConfig(models_dir=tmp_path),
            place.kafka, place.topics, game(), SystemClock(), place.stop, place.on_metrics,
        )  # fmt: skip
        await asyncio.gather(judging, wait())
        return place

    (evaluation,) = asyncio.run(asyncio.run(scenario()).evaluations())
    assert (evaluation.game, evaluation.error) == ("arena", None)
    gate = evaluation.matches[0]
    assert (gate.subject, gate.opponent, gate.n) == ("v0001", "scripted", 4)


async def _now(value: bool) -> bool:
    return value
