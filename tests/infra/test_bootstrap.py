"""Initial data: events that fit the description and that the ordinary fold settles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from infra.bootstrap.history import ArchiveHistory, Retold
from infra.bootstrap.run import Wrote, pick_archetypes, write
from infra.bootstrap.scripted import scripted
from infra.bootstrap.source import Asked, BootstrapError, Source
from infra.bootstrap.synthetic import Synthetic, facts_of
from infra.cli.app import app
from infra.cli.common import Exit
from infra.settings import load
from schemas.errors import SchemaError
from schemas.events import ActorEvent, Decision, Outcome, Tick
from schemas.game import Game
from schemas.records import Experience
from schemas.rewards import Reward
from tests.agents.log import Run
from tests.infra.lake import archive, duels, fold, log_of

runner = CliRunner()


class Kept:
    """A writer that keeps."""

    def __init__(self) -> None:
        self.events: list[ActorEvent] = []

    async def send(self, event: ActorEvent) -> None:
        self.events.append(event)


def asked(samples: int, *archetypes: str, seed: int = 1) -> Asked:
    return Asked(samples=samples, archetypes=archetypes, seed=seed, incarnation="i1")


def written(source: Source, game: Game, wanted: Asked) -> tuple[list[ActorEvent], Wrote]:
    kept, wrote = Kept(), Wrote(source="test", incarnation="i1")
    asyncio.run(write(source, game, wanted, kept, wrote, rate=1e9))
    assert wrote.events == len(kept.events)
    return kept.events, wrote


def settled(events: Sequence[ActorEvent], game: Game) -> Run:
    """What the fold makes of them, all time-outs and horizons passed."""
    run = Run(game)
    for at in range(0, len(events), 50):
        run.take(list(events[at : at + 50]))
    last = max(event.event_time_ms for event in events)
    run.take(Tick(event_time_ms=last + 3_600_000, source="test"))
    return run


def check(run: Run, events: Sequence[ActorEvent], version: str, **counts: int) -> list[Experience]:
    """The fold settles each decision by its outcome, and refuses nothing."""
    decisions = [e for e in events if isinstance(e, Decision)]
    assert run.letters == []
    assert len({e.decision_id for e in decisions}) == len(decisions) == len(run.experiences)
    assert {row.status for row in run.experiences} == {"observed"}
    assert {row.policy_version for row in run.experiences} == {version}
    found: dict[str, int] = {}
    for row in run.experiences:
        found[row.archetype] = found.get(row.archetype, 0) + 1
    assert found == counts
    return run.experiences


def test_synthetic_rollouts_are_settled_by_the_fold() -> None:
    game, wanted = duels(horizon_ms=0, standing=None), asked(130, "fighter", "guard")
    events, wrote = written(Synthetic(game, wanted), game, wanted)
    assert wrote.decisions == {"fighter": 130, "guard": 130}
    rows = check(settled(events, game), events, "synthetic", fighter=130, guard=130)
    assert len({row.total for row in rows}) > 3
    for row in rows:
        assert row.probabilities is not None
        told = np.frombuffer(row.probabilities, "<f4")
        assert told[row.action] == pytest.approx(row.propensity, rel=1e-5)
        assert told.sum() == pytest.approx(1, rel=1e-5)
    ends = sum(row.terminated for row in rows)
    assert 2 * 16 <= ends < 130


def test_synthetic_rollouts_with_a_horizon_have_standings() -> None:
    game, wanted = duels(), asked(40, "fighter")
    events, _ = written(Synthetic(game, wanted), game, wanted)
    rows = check(settled(events, game), events, "synthetic", fighter=40)
    assert any(row.long_term for row in rows)


def test_synthetic_rollouts_depend_on_the_seed_alone() -> None:
    def plain(seed: int) -> list[Any]:
        wanted = asked(50, "fighter", seed=seed)
        events = written(Synthetic(duels(), wanted), duels(), wanted)[0]
        return [(e.observation, e.action) for e in events if isinstance(e, Decision)]

    assert plain(1) == plain(1)
    assert plain(1) != plain(2)


def test_facts_are_those_that_the_reward_reads() -> None:
    assert facts_of(Reward(weights={"a": 1.0, "b": 2.0})) == ["a", "b"]
    assert "victory" in facts_of(Reward(formula="battle@1"))
    assert facts_of(Reward(function="math:sqrt")) == []


def test_history_is_told_again_under_names_of_its_own(tmp_path: Path) -> None:
    log = fold(log_of(), duels())
    archive(log, duels(), tmp_path)
    game, wanted = duels(horizon_ms=0, standing=None), asked(30, "fighter", "guard")
    source = Retold(ArchiveHistory(tmp_path, duels()), game, wanted)
    events, _ = written(source, game, wanted)
    rows = check(settled(events, game), events, "history", fighter=30, guard=30)
    before = {row.decision_id: row for row in log if isinstance(row, Experience)}
    for row in rows:
        old = before[row.decision_id.removeprefix("history-i1-")]
        assert row.actor_id == f"history-i1-{old.actor_id}"
        assert (row.observation, row.action, row.propensity) == (
            old.observation,
            old.action,
            old.propensity,
        )
        assert row.outcome_facts == old.outcome_facts
        assert row.immediate == old.immediate
        assert row.details == {"policy_version": "scripted"}


def test_history_that_has_nothing_says_so(tmp_path: Path) -> None:
    archive(fold(log_of(), duels()), duels(), tmp_path)
    with pytest.raises(BootstrapError, match="history must have observed decisions of mage"):
        Retold(ArchiveHistory(tmp_path, duels()), duels(), asked(5, "mage"))


def test_scripted_play_ends_its_episodes() -> None:
    game = load(environ={"GRINDSTONE_RATES_WORLDS": "2"}).load_game()
    wanted = asked(30, "fighter")
    events, wrote = written(scripted(game, wanted), game, wanted)
    assert wrote.decisions["fighter"] >= 30
    n = wrote.decisions["fighter"]
    check(settled(events, game), events, "scripted", fighter=n)
    outcomes = [e for e in events if isinstance(e, Outcome)]
    assert len(outcomes) == n


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(SchemaError, match="SOURCE must be scripted for a game that is played here"):
        scripted(duels(), asked(1, "fighter"))
    with pytest.raises(SchemaError, match="--archetype must be one of fighter, guard"):
        pick_archetypes(duels(), ("mage",))
    assert pick_archetypes(duels(), ()) == ("fighter", "guard")


def test_command_needs_a_broker_and_a_source() -> None:
    nobody = {"GRINDSTONE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    result = runner.invoke(app, ["bootstrap", "synthetic"], env=nobody)
    assert result.exit_code == Exit.NO_BROKER
    assert runner.invoke(app, ["bootstrap", "dreams"]).exit_code == Exit.USAGE
    wrong = runner.invoke(app, ["bootstrap", "synthetic", "--archetype", "mage"], env=nobody)
    assert wrong.exit_code == Exit.USAGE
    assert "--archetype must be one of fighter" in wrong.stderr
