"""One actor's flood is refused; its partition, its own outcomes and other actors go on."""

from __future__ import annotations

import random

import pytest

from agents.rewards import room
from agents.rewards.state import actor_key
from schemas.events import Event
from schemas.records import Experience
from streams.engine import EngineSettings
from tests.agents.log import Run, decision, duel, outcome, snapshot, tick

DAY_MS = 86_400_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_ACCOUNT_BYTES", 3_000)
    monkeypatch.setattr(room, "MAX_TOLD_BYTES", 12_000)


def flood(n: int) -> list[Event]:
    return [decision(step, 1_000 + step) for step in range(n)]


def test_limits_keep_an_account_below_what_a_state_may_be() -> None:
    states = EngineSettings.__struct_fields__
    default = EngineSettings.__struct_defaults__[states.index("max_state_bytes") - len(states)]
    assert room.MAX_ACCOUNT_BYTES < room.MAX_TOLD_BYTES < default


def test_decisions_beyond_an_accounts_limit_are_refused_and_outcomes_taken(small: None) -> None:
    run = Run(duel(outcome_timeout_ms=DAY_MS))
    run.take(*flood(100))
    n_open = 100 - len(run.letters)
    assert 10 < n_open < 60
    letter = run.letters[0]
    assert letter.path == "$.actor_id"
    assert "must be of an actor whose account stays within 3,000 bytes" in letter.reason
    assert "shorten the horizon" in letter.reason
    assert len(run.table[actor_key("a")]) < 3_000
    run.take(decision(0, 1_200, actor="b"))
    assert len(run.letters) == 100 - n_open, "another actor is not concerned"
    run.take(*[outcome(step, 1_300 + step) for step in range(n_open - 1)])
    assert len(run.letters) == 100 - n_open, "outcomes find room"
    settled = [row for row in run.rows if isinstance(row, Experience)]
    assert len(settled) == n_open - 1
    run.take(decision(200, 2_000))
    assert len(run.letters) == 100 - n_open, "and make room"


def test_standings_beyond_the_limit_are_refused_until_time_frees_the_account(small: None) -> None:
    game = duel(horizon_ms=DAY_MS, standing="standing", long_term_weight=0.5)
    run = Run(game)
    run.take(decision(0, 1_000), *(snapshot(1_001 + i, float(i)) for i in range(500)))
    refused = len(run.letters)
    assert 0 < refused < 500
    run.take(tick(2 * DAY_MS), snapshot(2 * DAY_MS, 1.0), decision(1, 2 * DAY_MS + 1))
    assert len(run.letters) == refused


def test_what_is_refused_does_not_depend_on_batches_or_take_overs(small: None) -> None:
    game = duel(horizon_ms=300, standing="standing", long_term_weight=0.5, revise_within_ms=200)
    rng = random.Random(4)
    log: list[Event] = []
    for step in range(400):
        log.append(decision(step, 1_000 + step))
        if rng.random() < 0.6:
            log.append(outcome(step, 1_000 + step))
        if rng.random() < 0.5:
            log.append(snapshot(1_000 + step, rng.random()))
    whole = Run(game)
    for event in log:
        whole.take(event)
    assert 20 < len(whole.letters) < 800
    cut = Run(game)
    left = list(log)
    while left:
        n = rng.randint(1, 60)
        cut.take(*left[:n])
        del left[:n]
        cut.restart()
    assert [bytes(letter.raw) for letter in cut.letters] == [bytes(x.raw) for x in whole.letters]
    experiences = [[r for r in run.rows if isinstance(r, Experience)] for run in (cut, whole)]
    assert [r.decision_id for r in experiences[0]] == [r.decision_id for r in experiences[1]]
    assert cut.table[actor_key("a")] == whole.table[actor_key("a")]
