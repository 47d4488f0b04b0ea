from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from agents.rewards.state import FORM, LEDGER_KEY
from agents.rewards.timers import ACTOR_IDLE_MS
from schemas.events import Event, Snapshot
from schemas.game import parse_game
from schemas.records import Experience, Row
from streams.engine import EngineError
from tests.agents.log import Run, decision, duel, end, outcome, snapshot, tick


def test_fold_settles_when_outcome_and_next_observation_are_known() -> None:
    run = Run(duel())
    assert run.take(decision(0, 1000), outcome(0, 1010)) == []
    (row,) = run.take(decision(1, 1050))
    assert (row.decision_id, row.status, row.immediate, row.total) == (
        "a/e1/0",
        "observed",
        0.5,
        0.5,
    )
    assert np.frombuffer(row.next_observation or b"", "<f4").tolist() == [1.0, 1050.0]
    assert (row.origin.offset, row.origin.index) == (2, 0)


def test_fold_terminal_step_needs_no_next_observation() -> None:
    run = Run(duel())
    (row,) = run.take(decision(0, 1000), outcome(0, 1010, terminated=True))
    assert (row.terminated, row.truncated, row.next_observation) == (True, False, None)


def test_fold_truncated_step_carries_the_last_observation() -> None:
    last = np.array([7, 8], "<f4").tobytes()
    run = Run(duel())
    (row,) = run.take(decision(0, 1000), outcome(0, 1010, truncated=True, next_observation=last))
    assert (row.terminated, row.truncated, row.next_observation) == (False, True, last)


def test_fold_episode_end_settles_the_last_decision() -> None:
    run = Run(duel())
    (row,) = run.take(decision(0, 1000), outcome(0, 1010), end(1020))
    assert (row.truncated, row.next_observation, row.status) == (True, None, "observed")


@pytest.mark.parametrize("kept", [{"horizon_ms": 500, "standing": "hp"}, {"revise_within_ms": 500}])
def test_fold_episode_end_ends_no_decision_that_another_followed(kept: dict[str, Any]) -> None:
    document = msgspec.to_builtins(duel())
    document["domains"]["plan"] = document["domains"]["combat"] | kept
    run = Run(parse_game(document))
    run.take(decision(0, 1_000, domain="plan"), outcome(0, 1_010))
    run.take(decision(1, 1_100), outcome(1, 1_110))  # settled, and let go, by the next one
    run.take(decision(2, 1_200), outcome(2, 1_210), end(1_220, truncated=False), tick(9_000))
    rows = {row.step: row for row in run.experiences}
    assert [rows[k].terminated for k in range(3)] == [False, False, True]
    assert [row.revision for row in run.experiences] == [0, 0, 0]
    assert rows[0].next_observation == decision(1, 1_100).observation


def test_fold_outcome_after_the_episode_end_knows_how_it_ended() -> None:
    run = Run(duel())
    (row,) = run.take(decision(0, 1000), end(1005, truncated=False), outcome(0, 1010))
    assert (row.terminated, row.truncated, row.status) == (True, False, "observed")


def test_fold_settles_by_default_when_the_outcome_times_out() -> None:
    run = Run(duel(default_reward=-0.1))
    assert run.take(decision(0, 1000), tick(2099)) == []  # watermark 1999, due 2000
    (row,) = run.take(tick(2100))
    assert (row.status, row.immediate, row.settled_time_ms) == ("default", -0.1, 2000)
    run.take(outcome(0, 2150), tick(2200))
    assert run.ledger.n_late == 1
    assert not run.letters


def test_fold_censors_when_nothing_follows() -> None:
    run = Run(duel())
    (row,) = run.take(decision(0, 1000), outcome(0, 1010), tick(2100))
    assert (row.status, row.immediate, row.next_observation) == ("censored", 0.5, None)


def test_fold_takes_the_standing_as_of_decision_plus_horizon() -> None:
    run = Run(duel(horizon_ms=500, standing="standing", standing_unit=10, long_term_weight=2))
    run.take(snapshot(990, 1.0), decision(0, 1000), outcome(0, 1010), decision(1, 1100))
    run.take(snapshot(1500, 4.0), snapshot(1501, 9.0))
    assert run.take(tick(1599)) == []
    (row,) = run.take(tick(1600))
    assert row.long_term == pytest.approx(0.3)  # (4 - 1) / 10: not the 9 of 1 ms later
    assert row.total == pytest.approx(0.5 + 2 * 0.3)


def test_fold_takes_a_standing_that_came_out_of_order_in_its_place() -> None:
    run = Run(duel(horizon_ms=500, standing="standing", standing_unit=10))
    run.take(snapshot(990, 1.0), decision(0, 1000), outcome(0, 1010), decision(1, 1100))
    (row,) = run.take(snapshot(1520, 9.0), snapshot(1450, 3.0), tick(1600))
    assert row.long_term == pytest.approx(0.2)


def test_fold_drops_repeats_and_counts_them() -> None:
    run = Run(duel())
    first: list[Event] = [decision(0, 1000), outcome(0, 1010), decision(1, 1050)]
    run.take(*first, *first, tick(1060))
    assert len(run.experiences) == 1
    assert (run.ledger.n_repeated, run.ledger.n_decisions, run.ledger.n_open) == (3, 2, 1)
    assert not run.letters


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (decision(0, 1000, game="chess"), "$.game"),
        (decision(0, 1000, domain="trade"), "$.domain"),
        (decision(0, 1000, archetype="mage"), "$.archetype"),
        (decision(0, 1000, observation=bytes(12)), "$.observation"),
        (decision(0, 1000, observation=np.array([1, np.nan], "<f4").tobytes()), "$.observation[1]"),
        (decision(0, 1000, action=3), "$.action"),
        (decision(0, 1000, legal=b"\0\1\1"), "$.action"),
        (decision(0, 1000, propensity=0.0), "$.propensity"),
        (decision(0, 1000, propensity=2.0), "$.propensity"),
        (outcome(5, 1000), "$.decision_id"),
        (outcome(0, 1000, facts={"hits": float("inf")}), "$.facts.hits"),
        (b'{"type":"decision.v1"', "$"),
        (b'{"type":"decision.v7"}', "$.type"),
        (b"", "$"),
    ],
)
def test_fold_dead_letters_bad_input_and_goes_on(event: bytes | Event, path: str) -> None:
    run = Run(duel())
    packed: list[bytes | Event | list[Event]] = [event]
    if not isinstance(event, bytes):  # JSON has no NaN and no Infinity: a pack carries them
        packed = [[event]]
    run.take(*packed)
    (letter,) = run.letters
    assert letter.path == path
    assert letter.reason.startswith(path)
    (row,) = run.take(decision(0, 1100), outcome(0, 1110, terminated=True))
    assert row.status == "observed"


def test_fold_loses_one_bad_event_of_a_pack_and_no_other() -> None:
    run = Run(duel())
    bad = decision(1, 1020, actor="b", propensity=7.0)
    pack: list[Event] = [decision(0, 1000), bad, outcome(0, 1010, terminated=True)]
    (row,) = run.take(pack)
    assert row.decision_id == "a/e1/0"
    assert [(x.index, x.path) for x in run.letters] == [(1, "$.propensity")]
    assert b"b/e1/1" in run.letters[0].raw
    assert b"a/e1/0" not in run.letters[0].raw


def test_fold_clock_ahead_of_the_log_moves_no_watermark() -> None:
    run = Run(duel())
    run.take(decision(0, 1000))
    run.feed([run.record(decision(0, 900_000, actor="b"), append_ms=1005)])
    run.take(tick(1010))
    assert run.ledger.watermark_ms == 910
    assert run.ledger.n_skewed == 1
    rows = run.take(tick(2300))  # and what it decided is not open for ever
    assert sorted(r.actor_id for r in rows) == ["a", "b"]


def test_fold_forgets_idle_actors() -> None:
    run = Run(duel())
    run.take(decision(0, 1000), outcome(0, 1010, terminated=True))
    assert any(k.startswith(b"a") for k in run.table)
    run.take(tick(1010 + ACTOR_IDLE_MS - 200))
    assert any(k.startswith(b"a") for k in run.table)
    run.take(tick(1010 + ACTOR_IDLE_MS + 200))
    assert list(run.table) == [b"\0ledger"]


# -- properties

moves = st.lists(
    st.tuples(
        st.sampled_from(["decide", "decide", "out", "out", "tick", "snap", "end", "bad", "again"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 900),
        st.booleans(),
    ),
    max_size=60,
)


def written(plan: list[tuple[str, str, int, bool]]) -> list[Event | bytes]:
    """Turn a plan into a log that a clumsy game could have written."""
    log: list[Event | bytes] = []
    now, episode = 10_000, Counter[str]()
    steps: Counter[tuple[str, int]] = Counter()
    for kind, actor, ms, flag in plan:
        now += ms
        name = f"e{episode[actor]}"
        step = steps[actor, episode[actor]]
        if kind == "decide":
            log.append(decision(step, now, actor, name))
            steps[actor, episode[actor]] += 1
        elif kind == "out":
            log.append(outcome(max(step - 1, 0), now - ms // 2, actor, name, terminated=flag))
        elif kind == "tick":
            log.append(tick(now))
        elif kind == "snap":
            log.append(snapshot(now - ms // 3, float(ms % 7), actor))
        elif kind == "end":
            log.append(end(now, actor, name, truncated=flag))
            episode[actor] += 1
        elif kind == "bad":
            log.append(b"{" + actor.encode())
        elif log:
            log.append(log[ms % len(log)])
    return log


GAMES = [
    duel(),
    duel(horizon_ms=700, standing="standing", standing_unit=4, long_term_weight=0.5),
    duel(horizon_ms=3_000, standing="standing"),
]


def run_whole(log: list[Event | bytes], which: int) -> Run:
    run = Run(GAMES[which])
    run.feed([run.record(x) for x in log])
    return run


@settings(max_examples=150, deadline=None)
@given(moves, st.integers(0, 2), st.lists(st.integers(1, 9), min_size=1), st.booleans())
def test_fold_result_is_the_same_however_batches_fall_and_owners_change(
    plan: list[tuple[str, str, int, bool]], which: int, sizes: list[int], restart: bool
) -> None:
    log = [*written(plan), tick(100_000)]  # in one leap: all timers at once
    whole = run_whole(log, which)
    parts = Run(GAMES[which])
    records = [parts.record(x) for x in log]
    i, k = 0, 0
    while i < len(records):
        size = sizes[k % len(sizes)]
        parts.feed(records[i : i + size])
        if restart:
            parts.restart()
        i, k = i + size, k + 1
    assert parts.rows == whole.rows
    assert parts.letters == whole.letters
    assert parts.table == whole.table or not log


@settings(max_examples=100, deadline=None)
@given(moves, st.integers(0, 2))
def test_fold_ledger_balances_and_origins_rise(
    plan: list[tuple[str, str, int, bool]], which: int
) -> None:
    run = run_whole([*written(plan), tick(10_000_000)], which)
    ledger = run.ledger
    assert ledger.n_decisions == ledger.n_settled + ledger.n_open
    assert len(run.experiences) == ledger.n_settled
    assert len(run.letters) == ledger.n_dead
    assert ledger.n_open == 0  # event time went past every horizon and time-out
    ids = [r.decision_id for r in run.experiences]
    assert len(ids) == len(set(ids))
    origins = [r.origin for r in run.rows]
    assert origins == sorted(set(origins))


@settings(max_examples=60, deadline=None)
@given(moves, st.integers(0, 2))
def test_fold_at_every_prefix_equals_the_fold_from_the_beginning(
    plan: list[tuple[str, str, int, bool]], which: int
) -> None:
    log = written(plan)
    streamed = Run(GAMES[which])
    for n, event in enumerate(log, start=1):
        streamed.feed([streamed.record(event)])
        assert streamed.rows == run_whole(log[:n], which).rows


@settings(max_examples=60, deadline=None)
@given(moves, st.integers(0, 1000))
def test_fold_uses_no_standing_after_the_cut_off(
    plan: list[tuple[str, str, int, bool]], shift: int
) -> None:
    """Standings after decision time + horizon may say anything: no experience changes."""
    log: list[Event | bytes] = [*written(plan), tick(10_000_000)]

    def settled(rows: list[Row]) -> dict[str, float]:
        return {r.decision_id: r.long_term for r in rows if isinstance(r, Experience)}

    base = run_whole(log, 1)
    for row in base.experiences[:5]:
        cut = row.decision_time_ms + 700
        changed = [
            snapshot(e.event_time_ms, e.facts["standing"] + shift, e.actor_id)
            if isinstance(e, Snapshot) and e.event_time_ms > cut
            else e
            for e in log
        ]
        again = run_whole(changed, 1)
        assert settled(again.rows)[row.decision_id] == settled(base.rows)[row.decision_id]


@pytest.mark.parametrize("restart", [False, True])
def test_order_of_settling_after_a_leap_of_time_does_not_depend_on_a_restart(restart: bool) -> None:
    run = Run(duel(horizon_ms=200, standing="standing", outcome_timeout_ms=1_000))
    run.take(decision(0, 1_000, "a"))
    run.take(tick(1_400))  # past the horizon of a's, which waits for its outcome until 2,000
    run.take(decision(0, 1_500, "b"), outcome(0, 1_550, "b", terminated=True))  # due at 1,700
    if restart:
        run.restart()

    assert [row.actor_id for row in run.take(tick(5_000))] == ["b", "a"]


def test_states_of_another_form_are_refused_when_they_are_taken_over() -> None:
    run = Run(duel())
    run.take(decision(0, 1_000))
    run.restart()  # its own
    ledger = msgspec.msgpack.decode(run.table[LEDGER_KEY])
    assert ledger[-1] == FORM
    run.table[LEDGER_KEY] = msgspec.msgpack.encode(ledger[:-1])  # as it was before forms
    with pytest.raises(EngineError, match=f"of form {FORM}; got 0 in partition 0.*anew"):
        run.restart()
