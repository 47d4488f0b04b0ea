"""N-step transitions against a brute-force account, and each way an episode can end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learners.replay.buffer import PrioritisedReplay
from learners.replay.form import Batch
from learners.replay.rows import WindowRows, rows_of_table
from schemas.columns import rows_to_table
from schemas.records import Experience
from tests.learners import toy

DISCOUNT = 0.5


def columns(rows: list[Experience]) -> WindowRows:
    table = rows_to_table(rows, toy.SHAPE.size, toy.N_ACTIONS)
    return rows_of_table(table, toy.SHAPE, "scripted")


def made(n: int, capacity: int = 200) -> PrioritisedReplay:
    return PrioritisedReplay(
        toy.SHAPE, capacity, n_step=n, discount=DISCOUNT, alpha=1.0, beta=0.5, storage="float32"
    )


def fold(
    rows: list[Experience], n: int, cuts: tuple[int, ...] = ()
) -> tuple[list[tuple[object, ...]], PrioritisedReplay]:
    """Fold rows cut into windows; returns (s, R, discount, s') of every transition, sorted."""
    replay = made(n)
    edges = [0, *cuts, len(rows)]
    for number, (start, end) in enumerate(zip(edges, edges[1:], strict=False)):
        replay.fold(columns(rows[start:end]), number)
    return sorted(account(transitions(replay))), replay


def transitions(replay: PrioritisedReplay) -> Batch:
    """All that can be sampled, in slot order."""
    return replay.stack.read(replay.stack.ready_slots(0)[None]).of(0)


def account(batch: Batch) -> list[tuple[object, ...]]:
    return [
        (
            batch.observation[i].tobytes(),
            round(float(batch.reward[i]), 5),
            round(float(batch.discount[i]), 5),
            batch.next_observation[i].tobytes() if batch.discount[i] else b"",
        )
        for i in range(len(batch.reward))
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
    found, replay = fold([step(0, 1.0), step(1, 2.0, truncated=True)], 3)
    assert found == [(vector(0), 1.0, 0.5, vector(1))]
    assert replay.dropped["broken"] == 1


def test_next_observation_that_was_not_said_is_the_next_steps_own() -> None:
    found, _ = fold([step(0, 1.0), step(1, 2.0), step(2, 4.0)], 1, cuts=(1, 2))
    assert found == sorted([(vector(0), 1.0, 0.5, vector(1)), (vector(1), 2.0, 0.5, vector(2))])


def test_missing_mask_waits_for_the_next_steps_mask() -> None:
    rows = [step(0, 1.0, next_observation=vector(1)), step(1, 2.0, legal=bytes([0, 1, 0]))]
    replay = made(1)
    replay.fold(columns(rows), 0)
    assert transitions(replay).next_legal.tolist() == [[0, 1, 0]]


def test_missing_step_breaks_the_chain() -> None:
    found, replay = fold([step(0, 1.0), step(1, 2.0), step(3, 8.0, terminated=True)], 2)
    assert found == sorted([(vector(0), 1.0, 0.5, vector(1)), (vector(3), 8.0, 0.0, b"")])
    assert replay.dropped["broken"] == 1


def test_censored_step_ends_the_returns_before_it() -> None:
    rows = [step(0, 1.0), step(1, 2.0), step(2, 0.0, status="censored"), step(3, 8.0)]
    found, replay = fold(rows, 5)
    assert found == sorted([(vector(0), 2.0, 0.25, vector(2)), (vector(1), 2.0, 0.5, vector(2))])
    assert replay.dropped["censored"] == 1


def test_revision_is_not_learned_twice() -> None:
    rows = [step(0, 1.0, terminated=True), step(0, 3.0, terminated=True, revision=1)]
    found, replay = fold(rows, 1)
    assert found == [(vector(0), 1.0, 0.0, b"")]
    assert replay.dropped["revised"] == 1


def test_demonstration_is_the_demonstrators_own_choice() -> None:
    rows = [
        step(0, 0.0, terminated=True),
        toy.row("b", "e", 0, 1, explored=True, terminated=True),
        toy.row("c", "e", 0, 2, policy_version="v0001", terminated=True),
    ]
    replay = made(1)
    replay.fold(columns(rows), 0)
    assert transitions(replay).columns["demonstration"].tolist() == [True, False, False]


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
                found.append((first.observation, round(total, 5), 0.0, b""))
            elif following is not None and not short:
                power = round(DISCOUNT ** len(taken), 5)
                found.append((first.observation, round(total, 5), power, following))
    return sorted(found)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(20, 120), st.integers(0, 50), st.integers(1, 5), st.booleans(),
    st.lists(st.integers(1, 119), max_size=5),
)  # fmt: skip
def test_walks_agree_with_brute_force_however_windows_are_cut(
    n_rows: int, seed: int, n: int, say_next: bool, cuts: list[int]
) -> None:
    rows = toy.walk(n_rows, seed, say_next)
    inside = tuple(sorted({cut for cut in cuts if cut < n_rows}))
    found, replay = fold(rows, n, inside)
    assert found == brute_force(rows, n)
    assert not any(replay.dropped.values())


@settings(deadline=None, max_examples=60)
@given(st.integers(30, 90), st.integers(1, 29), st.integers(1, 4), st.booleans())
def test_restored_chains_go_on_alike(n_rows: int, cut: int, n: int, say_next: bool) -> None:
    rows = toy.walk(n_rows, 3, say_next)
    first, second = made(n), made(n)
    first.fold(columns(rows[:cut]), 0)
    second.restore(first.state())
    for number in second.windows():
        second.fill(number, columns(rows[:cut]))
    for replay in (first, second):
        replay.fold(columns(rows[cut:]), 1)
    assert account(transitions(second)) == account(transitions(first))
    ours, theirs = second.state(), first.state()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)


def test_silent_actors_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learners.replay.buffer.MAX_OPEN_ACTORS", 2)
    replay = made(1)
    replay.fold(columns([toy.row(f"a{k}", "e", 0, k) for k in range(5)]), 0)
    assert replay.dropped["silent"] == 3
    replay.fold(columns([toy.row(f"a{k}", "e", 1, 5 + k) for k in range(5)]), 1)
    assert len(replay) == 2  # of the two that were remembered
