from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from agents.policies import Choice, OnnxPolicy, RandomPolicy, Uniforms
from games.battle.connector import CONNECTOR
from games.battle.matches import play_matches
from games.battle.scripted import ScriptedPolicy
from games.champions import ModelRecord
from games.evaluator import Backlog, Evaluator, EvaluatorConfig
from games.match import tally
from games.seeds import match_seeds
from games.trials import Trials, decision_latency_p95_ms
from schemas.game import Game, Gate, load_game
from schemas.model_events import Evaluation, MatchUp, Registered
from tests.games.fakes import (
    MODEL,
    FedFollower,
    ManualClock,
    champion,
    model_folder,
    registered,
)
from tests.games.nets import battle_graph, write_model

DESCRIPTION = Path(__file__).parents[2] / "games" / "battle" / "battle.toml"


def small(**gate: float) -> Game:
    """The battle with a gate of few matches."""
    values = {"matches": 8, "confirm_matches": 4, "head_to_head": 4, **gate}
    return msgspec.structs.replace(load_game(DESCRIPTION), gate=msgspec.convert(values, Gate))


class Named:
    """A policy under another version."""

    def __init__(self, version: str, policy: ScriptedPolicy | RandomPolicy) -> None:
        self.version = version
        self._policy = policy

    def act(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_], rng: Uniforms
    ) -> Choice:
        return self._policy.act(observations, legal, rng)


GOOD, BAD = Named("v0002", ScriptedPolicy()), Named("v0001", RandomPolicy())


def played(trials: Trials, candidate: Named, rival: Named | None) -> list[MatchUp]:
    for part in trials.parts(candidate, rival):
        part()
    return trials.matches


def shapes(matches: list[MatchUp]) -> list[tuple[str, str, str, int]]:
    return [(m.stage, m.subject, m.opponent, m.n) for m in matches]


def test_trials_of_a_promising_candidate_are_confirmed_on_further_seeds() -> None:
    matches = played(Trials(small(), MODEL), GOOD, None)
    assert shapes(matches) == [
        ("gate", "v0002", "scripted", 8),
        ("confirm", "v0002", "scripted", 4),
    ]
    assert [m.seeds for m in matches] == [f"{s}/{MODEL}/v0002" for s in ("gate", "confirm")]


def test_trials_play_the_champion_on_the_same_seeds_and_then_itself() -> None:
    matches = played(Trials(small(min_gain=-1), MODEL), GOOD, BAD)
    assert shapes(matches) == [
        ("gate", "v0002", "scripted", 8),
        ("gate", "v0001", "scripted", 8),
        ("confirm", "v0002", "scripted", 4),
        ("confirm", "v0001", "scripted", 4),
        ("gate", "v0002", "v0001", 4),
    ]
    assert matches[0].seeds == matches[1].seeds != matches[2].seeds == matches[3].seeds
    assert matches[4].wins == 4


def test_trials_outcomes_are_those_of_the_named_seeds() -> None:
    match = played(Trials(small(), MODEL), GOOD, None)[0]
    again = tally(play_matches(GOOD, ScriptedPolicy(), match_seeds("gate", MODEL, "v0002", 4)))
    assert (match.wins, match.draws, match.losses, match.outcomes) == again[1:]


def test_trials_of_a_hopeless_candidate_stop_and_say_so() -> None:
    matches = played(Trials(small(matches=20, min_lower95=0.6), MODEL), BAD, None)
    assert shapes(matches) == [("gate", "v0001", "scripted", 10)]
    assert matches[0].losses == len(matches[0].outcomes) == 10


def test_trials_clearly_behind_the_champion_stop() -> None:
    matches = played(Trials(small(matches=40), MODEL), Named("v0003", RandomPolicy()), GOOD)
    assert [m.n for m in matches] == [20, 20]


def test_trials_that_fail_the_gate_are_not_confirmed() -> None:
    matches = played(Trials(small(min_lower95=0.1), MODEL), BAD, None)
    assert {m.stage for m in matches} == {"gate"}


def test_latency_is_of_the_serving_path() -> None:
    assert 0 < decision_latency_p95_ms(OnnxPolicy(battle_graph(), "v1"), CONNECTOR) < 1000


class Scene:
    def __init__(self, models: Path, game: Game | None = None) -> None:
        self.models = models
        self.game = game or small(matches=2, confirm_matches=2, head_to_head=0)
        self.clock = ManualClock()
        self.sent: list[Evaluation] = []
        self.told: list[tuple[dict[str, float], dict[str, str]]] = []
        self.stop = asyncio.Event()
        self.follower = FedFollower()
        self.evaluator = Evaluator(
            EvaluatorConfig(models_dir=models),
            self.game,
            self.clock,
            self,
            lambda values, labels: self.told.append((values, labels)),
        )

    async def publish(self, event: Evaluation) -> None:
        self.sent.append(event)

    def version(self, version: str, seed: int = 0) -> ModelRecord:
        return registered(
            version, write_model(model_folder(self.models, version), battle_graph(seed))
        )

    async def run(self, batches: list[list[ModelRecord]], n_sent: int) -> list[Evaluation]:
        for batch in batches:
            self.follower.queue.put_nowait(batch)
        running = asyncio.create_task(self.evaluator.run(self.follower, self.stop))
        for _ in range(20_000):
            if len(self.sent) >= n_sent and self.follower.queue.empty():
                break
            if self.follower.queue.empty():
                self.follower.queue.put_nowait([])
            await asyncio.sleep(0.001)
        self.stop.set()
        self.follower.queue.put_nowait([])
        await running
        return self.sent


def test_evaluator_takes_every_candidate_in_order(tmp_path: Path) -> None:
    async def scenario() -> list[Evaluation]:
        scene = Scene(tmp_path)
        versions = [scene.version(f"v000{k}", k) for k in (1, 2, 3)]
        verdicts = [[champion(f"v000{k}", [])] for k in (1, 2)]
        scene.clock.seconds = 5.0
        return await scene.run([versions, *verdicts, []], 3)

    sent = asyncio.run(scenario())
    assert [e.version for e in sent] == ["v0001", "v0002", "v0003"]
    assert [e.error for e in sent] == [None] * 3
    assert all(e.latency_p95_ms > 0 for e in sent)


def test_evaluator_waits_for_the_verdict_before_the_next_candidate(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path)
        first, second = scene.version("v0001", 1), scene.version("v0002", 2)
        assert isinstance(first.event, Registered)
        await scene.run([[first, second], [], []], 1)
        assert [e.version for e in scene.sent] == ["v0001"]
        scene.stop.clear()
        await scene.run([[champion("v0001", first.event.files)]], 2)
        own, rival, *_ = scene.sent[1].matches
        assert (own.subject, rival.subject) == ("v0002", "v0001")
        assert scene.sent[1].champion == "v0001"

    asyncio.run(scenario())


def test_evaluator_goes_on_without_a_verdict_that_does_not_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path)
        await scene.run([[scene.version("v0001", 1), scene.version("v0002", 2)]], 1)
        scene.stop.clear()
        scene.clock.seconds += 11
        await scene.run([], 2)
        assert [e.version for e in scene.sent] == ["v0001", "v0002"]

    asyncio.run(scenario())


def test_evaluator_started_again_does_nothing_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = Scene(tmp_path)
        version = first.version("v0001", 1)
        (sent,) = await first.run([[version]], 1)
        again = Scene(tmp_path)
        another = again.version("v0002", 2)
        history = [version, ModelRecord(sent, 0), champion("v0001", []), another]
        await again.run([history], 1)
        assert [e.version for e in again.sent] == ["v0002"]

    asyncio.run(scenario())


def test_evaluator_same_version_gets_the_same_evaluation(tmp_path: Path) -> None:
    async def scenario() -> list[list[MatchUp]]:
        scenes = [Scene(tmp_path), Scene(tmp_path)]
        return [(await s.run([[s.version("v0001", 1)]], 1))[0].matches for s in scenes]

    one, other = asyncio.run(scenario())
    assert one == other


@pytest.mark.parametrize("spoilt", ["model.onnx", "manifest.json"])
def test_evaluator_reports_a_corrupt_model_with_its_reason(tmp_path: Path, spoilt: str) -> None:
    async def scenario() -> Evaluation:
        scene = Scene(tmp_path)
        version = scene.version("v0001")
        (model_folder(tmp_path, "v0001") / spoilt).write_bytes(b"corrupt")
        return (await scene.run([[version]], 1))[0]

    evaluation = asyncio.run(scenario())
    assert evaluation.error is not None
    assert spoilt in evaluation.error
    assert "; got" in evaluation.error
    assert evaluation.matches == []


def test_evaluator_without_the_champions_files_plays_the_candidate_alone(tmp_path: Path) -> None:
    async def scenario() -> Evaluation:
        scene = Scene(tmp_path)
        return (await scene.run([[champion("v0009", []), scene.version("v0010")]], 1))[0]

    evaluation = asyncio.run(scenario())
    assert evaluation.champion == "v0009"
    assert evaluation.error is None
    assert {m.subject for m in evaluation.matches} == {"v0010"}


def test_backlog_keeps_nothing_of_other_games() -> None:
    backlog = Backlog(load_game(DESCRIPTION))
    backlog.take(registered("v0001", [], model="another").event)
    backlog.take(champion("v0001", [], model="another").event)
    assert backlog.next() is None
    assert not backlog.champions
    assert not backlog.unjudged
