"""N-step transitions against a brute-force account, and each way an episode can end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.replay.nstep import NStepAssembler, Transitions
from learners.replay.rows import WindowRows, rows_of_table
from schemas.arrow import rows_to_table
from schemas.records import Experience
from tests.learners import toy

DISCOUNT = 0.5


def columns(rows: list[Experience]) -> WindowRows:
    table = rows_to_table(rows, toy.SHAPE.size, toy.N_ACTIONS)
    return rows_of_table(table, toy.SHAPE, "scripted")


def fold(
    rows: list[Experience], n: int, cuts: tuple[int, ...] = ()
) -> tuple[list[tuple[object, ...]], NStepAssembler]:
    """Fold rows cut into windows; returns (s, R, discount, s') of every transition, sorted."""
    assembler = NStepAssembler(n, DISCOUNT)
    found: list[tuple[object, ...]] = []
    edges = [0, *cuts, len(rows)]
    for number, (start, end) in enumerate(zip(edges, edges[1:], strict=False)):
        found += account(assembler.fold(columns(rows[start:end]), number))
    return sorted(found), assembler


def account(transitions: Transitions) -> list[tuple[object, ...]]:
    return [
        (
            transitions.observation[i].tobytes(),
            round(float(transitions.reward[i]), 9),
            round(float(transitions.discount[i]), 9),
            transitions.next_observation[i].tobytes() if transitions.discount[i] else b"",
        )
        for i in range(len(transitions))
    ]


def vector(number: int) -> bytes:
    return np.full(toy.N_CELLS, number, np.float32).tobytes()


def step(number: int, reward: float, **changes: object) -> Experience:
    """Step of one episode whose observation is filled with its number."""
    return toy.row("a", "e", number, number, observation=vector(number), total=reward, **changes)


def test_three_steps_by_hand() -> None:
    rows = [
        step(0, 1.0, next_observation=vector(1), next_legal=toy.legal(1)),
        step(1, 2.0, next_observation=vector(2), next_legal=toy.legal(1)),
        step(2, 4.0, terminated=True),
    ]
    found, _ = fold(rows, 2)
    assert found == sorted([
        (vector(0), 1.0 + 0.5 * 2.0, 0.25, vector(2)),
        (vector(1), 2.0 + 0.5 * 4.0, 0.0, b""),
        (vector(2), 4.0, 0.0, b""),
    ])  # fmt: skip


def test_truncated_bootstraps_its_next_observation() -> None:
    rows = [
        step(0, 1.0, next_observation=vector(1), next_legal=toy.legal(1)),
        step(1, 2.0, next_observation=vector(9), next_legal=toy.legal(1), truncated=True),
    ]
    found, _ = fold(rows, 3)
    assert found == sorted([
        (vector(0), 2.0, 0.25, vector(9)),
        (vector(1), 2.0, 0.5, vector(9)),
    ])  # fmt: skip


def test_truncated_without_a_next_observation_is_dropped_but_ends_earlier_steps() -> None:
    found, assembler = fold([step(0, 1.0), step(1, 2.0, truncated=True)], 3)
    assert found == [(vector(0), 1.0, 0.5, vector(1))]
    assert assembler.dropped["broken"] == 1


def test_next_observation_that_was_not_said_is_the_next_steps_own() -> None:
    found, _ = fold([step(0, 1.0), step(1, 2.0), step(2, 4.0)], 1, cuts=(1, 2))
    assert found == sorted([(vector(0), 1.0, 0.5, vector(1)), (vector(1), 2.0, 0.5, vector(2))])


def test_missing_mask_waits_for_the_next_steps_mask() -> None:
    rows = [step(0, 1.0, next_observation=vector(1)), step(1, 2.0, legal=bytes([0, 1, 0]))]
    assembler = NStepAssembler(1, DISCOUNT)
    transitions = assembler.fold(columns(rows), 0)
    assert transitions.next_legal.tolist() == [[0, 1, 0]]


def test_missing_step_breaks_the_chain() -> None:
    found, assembler = fold([step(0, 1.0), step(1, 2.0), step(3, 8.0, terminated=True)], 2)
    assert found == sorted([(vector(0), 1.0, 0.5, vector(1)), (vector(3), 8.0, 0.0, b"")])
    assert assembler.dropped["broken"] == 1


def test_censored_step_ends_the_returns_before_it() -> None:
    rows = [step(0, 1.0), step(1, 2.0), step(2, 0.0, status="censored"), step(3, 8.0)]
    found, assembler = fold(rows, 5)
    assert found == sorted([(vector(0), 2.0, 0.25, vector(2)), (vector(1), 2.0, 0.5, vector(2))])
    assert assembler.dropped["censored"] == 1


def test_revision_is_not_learned_twice() -> None:
    rows = [step(0, 1.0, terminated=True), step(0, 3.0, terminated=True, revision=1)]
    found, assembler = fold(rows, 1)
    assert found == [(vector(0), 1.0, 0.0, b"")]
    assert assembler.dropped["revised"] == 1


def test_demonstration_is_the_demonstrators_own_choice() -> None:
    rows = [
        step(0, 0.0, terminated=True),
        toy.row("b", "e", 0, 1, explored=True, terminated=True),
        toy.row("c", "e", 0, 2, policy_version="v0001", terminated=True),
    ]
    transitions = NStepAssembler(1, DISCOUNT).fold(columns(rows), 0)
    assert transitions.demonstration.tolist() == [True, False, False]


def brute_force(rows: list[Experience], n: int) -> list[tuple[object, ...]]:
    """What the definition says, one episode after the other, all rows at hand."""
    episodes: dict[tuple[str, str], list[Experience]] = {}
    for row in rows:
        episodes.setdefault((row.actor_id, row.episode), []).append(row)
    found: list[tuple[object, ...]] = []
    for steps in episodes.values():
        for i, first in enumerate(steps):
            taken = steps[i : i + n]
            last = taken[-1]
            total = sum(DISCOUNT**k * row.total for k, row in enumerate(taken))
            after = steps[i + n] if i + n < len(steps) else None
            following = last.next_observation or (after.observation if after else None)
            short = len(taken) < n and not (last.terminated or last.truncated)
            if last.terminated:
                found.append((first.observation, round(total, 9), 0.0, b""))
            elif following is not None and not short:
                power = round(DISCOUNT ** len(taken), 9)
                found.append((first.observation, round(total, 9), power, following))
    return sorted(found)


@given(
    st.integers(20, 120), st.integers(0, 50), st.integers(1, 5), st.booleans(),
    st.lists(st.integers(1, 119), max_size=5),
)  # fmt: skip
def test_walks_agree_with_brute_force_however_windows_are_cut(
    n_rows: int, seed: int, n: int, say_next: bool, cuts: list[int]
) -> None:
    rows = toy.walk(n_rows, seed, say_next)
    inside = tuple(sorted({cut for cut in cuts if cut < n_rows}))
    found, assembler = fold(rows, n, inside)
    assert found == brute_force(rows, n)
    assert not any(assembler.dropped.values())


@given(st.integers(30, 90), st.integers(1, 29), st.integers(1, 4), st.booleans())
def test_restored_chains_go_on_alike(n_rows: int, cut: int, n: int, say_next: bool) -> None:
    rows = toy.walk(n_rows, 3, say_next)
    first = NStepAssembler(n, DISCOUNT)
    first.fold(columns(rows[:cut]), 0)
    chains = first.open_chains()
    second = NStepAssembler(n, DISCOUNT)
    places = [place for chain in chains for place in chain[3]]
    carried = columns(rows[:cut]).take(np.asarray([r for _, r in places], np.int64))
    second.restore(chains, carried if places else None, first.dropped)
    ours, theirs = (a.fold(columns(rows[cut:]), 1) for a in (second, first))
    for field in dataclasses.fields(Transitions):
        if field.name != "sources":
            same = np.array_equal(getattr(ours, field.name), getattr(theirs, field.name))
            assert same, field.name
    assert np.array_equal(ours.sources.next_row, theirs.sources.next_row)


def test_silent_actors_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learners.replay.nstep.MAX_PENDING_ACTORS", 2)
    rows = [toy.row(f"a{k}", "e", 0, k) for k in range(5)]
    assembler = NStepAssembler(1, DISCOUNT)
    assembler.fold(columns(rows), 0)
    assert [chain[0] for chain in assembler.open_chains()] == ["a3", "a4"]
    assert assembler.dropped["silent"] == 3
