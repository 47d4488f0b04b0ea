"""The streamed fold beside the batch recomputation, and the time-travel check."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from schemas.events import Decision, Event, Outcome, Snapshot
from schemas.game import Game
from schemas.records import Experience, Retraction
from tests.agents.batch import Settled, batch, of_row
from tests.agents.log import Run, decision, duel, end, outcome, snapshot, tick

LATE_MS = 5_000
HORIZON: dict[str, Any] = {
    "horizon_ms": 700,
    "standing": "standing",
    "standing_unit": 4,
    "long_term_weight": 0.5,
    "retaliation": "lost",
    "retaliation_weight": -0.125,
}
GAMES: list[Game] = [
    duel(revise_within_ms=LATE_MS),
    duel(revise_within_ms=LATE_MS, **HORIZON),
    duel(revise_within_ms=LATE_MS, credit="discounted", credit_discount=0.5, **HORIZON),
    duel(revise_within_ms=LATE_MS, credit="discounted", credit_discount=1.0, **HORIZON),
    *(
        duel(revise_within_ms=LATE_MS, aggregate=kind, **HORIZON)
        for kind in ("latest", "sum", "mean", "median", "min", "max")
    ),
]

moves = st.lists(
    st.tuples(
        st.sampled_from(["decide", "decide", "out", "out", "more", "snap", "hit", "end", "tick"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 4).map(lambda n: 100 * n),  # coarse, so that times meet
        st.integers(0, 12).map(lambda n: 100 * n),
        st.integers(-3, 6),
    ),
    min_size=6,
    max_size=40,
)
Plan = list[tuple[str, str, int, int, int]]


def written(plan: Plan) -> list[Event]:
    """Turn a plan into a log: time goes on by the first number; what is told of the past comes
    late by the second."""
    log: list[Event] = []
    now, episode, steps = 10_000, {"a": 0, "b": 0}, {"a": 0, "b": 0}
    for kind, actor, ms, late, number in plan:
        now += ms
        name, step = f"e{episode[actor]}", steps[actor]
        past = max(now - late, 10_000)
        if kind == "decide":
            opponent = "foe" if number > 0 else None
            log.append(decision(step, now, actor, name, opponent_id=opponent))
            steps[actor] += 1
        elif kind in ("out", "more") and step:
            of = max(0, step - 1 - max(number, 0) // 2)
            signal = "" if kind == "out" else f"s{number}"
            facts = {"hits": float(number), "losses": 0.5}
            log.append(outcome(of, past, actor, name, facts=facts, signal=signal))
        elif kind == "snap":
            log.append(snapshot(past, float(number), actor))
        elif kind == "hit":
            facts = {"lost": float(abs(number))}
            hit = Snapshot(
                game="duel", actor_id=actor, event_time_ms=past, facts=facts, opponent_id="foe"
            )
            log.append(hit)
        elif kind == "end" and step:
            log.append(end(now, actor, name, truncated=number > 0))
            episode[actor], steps[actor] = episode[actor] + 1, 0
        elif kind == "tick":
            log.append(tick(now))
    return log


def latest(run: Run) -> dict[str, Settled]:
    """The newest revision of each, its status as if it were the first."""
    found = {row.decision_id: row for row in run.experiences}
    return {name: of_row(row) for name, row in found.items()}


def same(streamed: dict[str, Settled], whole: dict[str, Settled], run: Run) -> None:
    revised = {r.decision_id for r in run.experiences if r.revision}
    assert streamed.keys() == whole.keys()
    for name, row in whole.items():
        status = "revised" if name in revised else row.status
        assert streamed[name] == row._replace(status=status), name


@settings(max_examples=400, deadline=None)
@given(moves, st.sampled_from([0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]), st.booleans())
def test_streamed_equals_batch_at_every_prefix(plan: Plan, which: int, restart: bool) -> None:
    log = written(plan)
    run = Run(GAMES[which])
    for n, event in enumerate(log, start=1):
        run.feed([run.record(event)])
        same(latest(run), batch(log[:n], GAMES[which]), run)
        if restart:
            run.restart()


@settings(max_examples=100, deadline=None)
@given(moves, st.integers(0, len(GAMES) - 1))
def test_revisions_are_numbered_and_each_retracts_the_one_before(plan: Plan, which: int) -> None:
    run = Run(GAMES[which])
    run.feed([run.record(e) for e in [*written(plan), tick(10_000_000)]])
    said: dict[str, Experience] = {}
    retracted: Retraction | None = None
    for row in run.rows:
        if isinstance(row, Retraction):
            old = said[row.decision_id]
            assert (row.revision, row.total) == (old.revision, old.total)
            retracted = row
        elif isinstance(row, Experience):
            if row.revision:
                assert retracted is not None
                assert (retracted.decision_id, retracted.revision) == (
                    row.decision_id,
                    row.revision - 1,
                )
                assert row.status == "revised"
            else:
                assert row.decision_id not in said
            said[row.decision_id], retracted = row, None
    assert run.ledger.n_revised == sum(row.revision for row in said.values())
    assert run.ledger.n_open == 0


@settings(max_examples=100, deadline=None)
@given(moves, st.integers(1, 3), st.integers(1, 9))
def test_no_experience_uses_an_event_after_its_cut_off(plan: Plan, which: int, shift: int) -> None:
    """Time travel: change every event after a decision's cut-off, and it stays the same."""
    game = GAMES[which]
    log = written(plan)
    base = latest_rows(log, game)
    for decision_id, row in list(base.items())[:4]:
        horizon_ms = row.decision_time_ms + game.domains["combat"].horizon_ms
        cut_ms = row.decision_time_ms + 1_000
        changed = [_changed(e, horizon_ms, cut_ms, shift) for e in log]
        again = latest_rows(changed, game)
        assert of_row(again[decision_id]) == of_row(row)
        assert again[decision_id].facts == row.facts
        assert again[decision_id].next_facts == row.next_facts


def latest_rows(log: list[Event], game: Game) -> dict[str, Experience]:
    run = Run(game)
    run.feed([run.record(e) for e in [*log, tick(10_000_000)]])
    return {row.decision_id: row for row in run.experiences}


def _changed(event: Event, horizon_ms: int, cut_ms: int, shift: int) -> Event:
    """Say something else after the cut-off: of the standing, an outcome, or what was seen."""
    time_ms = event.event_time_ms
    if isinstance(event, Snapshot) and time_ms > horizon_ms:
        facts = {name: value + shift for name, value in event.facts.items()}
        return msgspec.structs.replace(event, facts=facts)
    if isinstance(event, Outcome) and time_ms > cut_ms:
        return msgspec.structs.replace(event, facts={"hits": float(shift), "new": 1.0})
    if isinstance(event, Decision) and time_ms > cut_ms:
        return msgspec.structs.replace(event, observation=b"\0" * 8, facts={"hp": float(shift)})
    return event


def test_shares_of_a_change_sum_to_the_change() -> None:
    game = duel(credit="discounted", credit_discount=0.5, **HORIZON)
    run = Run(game)
    run.take(snapshot(900, 1.0))
    for step, time_ms in enumerate((1_000, 1_100, 1_200)):
        run.take(decision(step, time_ms), outcome(step, time_ms + 10))
    run.take(snapshot(1_300, 8.0), decision(3, 1_400), outcome(3, 1_410), end(1_420), tick(9_000))
    # 7 is shared 1 : 2 : 4 among the three before it, and the fourth came too late for it.
    assert [row.credit for row in run.experiences] == [1.0, 2.0, 4.0, 0.0]
    assert [row.long_term for row in run.experiences] == [0.25, 0.5, 1.0, 0.0]


@pytest.mark.parametrize(
    ("at_ms", "paid"), [(1_000, 0.0), (1_001, 3.0), (1_700, 3.0), (1_701, 0.0)]
)
def test_horizon_begins_behind_the_decision_and_holds_its_last_moment(
    at_ms: int, paid: float
) -> None:
    game = duel(credit="discounted", **HORIZON)
    run = Run(game)
    hit = Snapshot(
        game="duel", actor_id="a", event_time_ms=at_ms, facts={"lost": 2.0}, opponent_id="foe"
    )
    run.take(snapshot(900, 1.0), decision(0, 1_000, opponent_id="foe"), outcome(0, 1_000))
    run.take(snapshot(at_ms, 4.0), hit, end(1_800), tick(9_000))
    (row,) = run.experiences
    assert row.credit == paid
    assert row.retaliation == (2.0 if paid else None)


def test_retaliation_is_charged_to_the_decision_that_provoked_it() -> None:
    run = Run(duel(**HORIZON))
    hit = Snapshot(
        game="duel", actor_id="a", event_time_ms=1_500, facts={"lost": 4.0}, opponent_id="foe"
    )
    run.take(
        decision(0, 1_000, opponent_id="foe"),
        decision(1, 1_100, opponent_id="foe"),
        decision(2, 1_200, opponent_id="other"),
        *(outcome(step, 1_210) for step in range(3)),
        hit,
        end(1_600),
        tick(9_000),
    )
    assert [row.retaliation for row in run.experiences] == [None, 4.0, None]
    assert [row.long_term for row in run.experiences] == [0.0, -0.5, 0.0]


def test_late_outcome_is_a_numbered_revision() -> None:
    run = Run(duel(revise_within_ms=LATE_MS, default_reward=-0.25))
    run.take(decision(0, 1_000), tick(2_200))
    run.take(outcome(0, 1_500), tick(2_300))
    first, second = run.experiences
    assert (first.revision, first.status, first.total) == (0, "default", -0.25)
    assert (second.revision, second.status, second.total) == (1, "revised", 0.5)
    (taken_back,) = [r for r in run.rows if isinstance(r, Retraction)]
    assert (taken_back.decision_id, taken_back.revision, taken_back.total) == (
        first.decision_id,
        0,
        -0.25,
    )
    assert first.origin < taken_back.origin < second.origin
    assert run.ledger.n_revised == 1
