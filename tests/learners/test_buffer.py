"""The prioritised ring: what it holds, what it draws, and how it is rebuilt."""

from __future__ import annotations

import numpy as np
import pytest

from learners.replay.buffer import PRIORITY_FLOOR, PrioritisedReplay
from learners.replay.nstep import NStepAssembler, Transitions
from tests.learners import toy
from tests.learners.test_nstep import columns


def ring(capacity: int = 64, alpha: float = 1.0, storage: str = "float32") -> PrioritisedReplay:
    return PrioritisedReplay(capacity, toy.SHAPE, alpha, 0.5, storage)


def transitions(n: int, seed: int = 0) -> Transitions:
    return NStepAssembler(1, 0.9).fold(columns(toy.walk(n, seed)), 0)


def test_ring_keeps_the_newest() -> None:
    replay, given = ring(8), transitions(20)
    replay.add(given)
    assert len(replay) == 8
    assert replay.n_added == 20
    held = {row.tobytes() for row in replay.observations(8)}
    assert held == {row.tobytes() for row in given.observation[12:]}


@pytest.mark.parametrize("sizes", [[20], [3, 9, 8], [1] * 20, [2, 18]])
def test_ring_never_forgets_the_first_rows(sizes: list[int]) -> None:
    replay = PrioritisedReplay(8, toy.SHAPE, 1.0, 0.5, "float32", kept=3)
    assembler, rows = NStepAssembler(1, 0.9), columns(toy.walk(20))
    start = 0
    for number, size in enumerate(sizes):
        replay.add(assembler.fold(rows.take(np.arange(start, start + size)), number))
        start += size
    given = transitions(20)
    held = {row.tobytes() for row in replay.observations(8)}
    assert held == {row.tobytes() for row in given.observation[[0, 1, 2, 15, 16, 17, 18, 19]]}


def test_adding_at_once_or_bit_by_bit_is_the_same() -> None:
    at_once, by_parts = ring(8), ring(8)
    at_once.add(transitions(20))
    assembler = NStepAssembler(1, 0.9)
    rows = columns(toy.walk(20))
    for start in range(0, 20, 3):
        part = assembler.fold(rows.take(np.arange(start, min(20, start + 3))), start)
        by_parts.add(part)
    for name in ("action", "reward", "discount", "priority"):
        ours, theirs = at_once.state(), by_parts.state()
        assert ours[f"replay.{name}"].tolist() == theirs[f"replay.{name}"].tolist()


def test_priorities_and_importance_weights_by_hand() -> None:
    replay = ring()
    replay.add(transitions(4))
    errors = np.asarray([0.0, 1.0, -3.0, 0.5], np.float32)
    replay.set_errors(np.arange(4), errors)
    priority = np.abs(errors) + PRIORITY_FLOOR
    assert replay.state()["replay.priority"] == pytest.approx(priority)
    batch = replay.sample(400, np.random.default_rng(0))
    shares = np.bincount(batch.slots, minlength=4) / 400
    assert shares == pytest.approx(priority / priority.sum(), abs=0.01)
    # (N P(i)) ** -beta over the largest of the batch, the rarest transition's
    rarest = priority[batch.slots].min()
    wanted = (priority[batch.slots] / rarest) ** -0.5
    assert batch.weight == pytest.approx(wanted, rel=1e-5)


def test_new_transitions_get_the_largest_priority_seen() -> None:
    replay = ring()
    replay.add(transitions(3))
    replay.set_errors(np.asarray([1]), np.asarray([6.0], np.float32))
    replay.add(transitions(1))
    assert replay.state()["replay.priority"][3] == pytest.approx(6.0 + PRIORITY_FLOOR)


def test_alpha_zero_is_uniform() -> None:
    replay = ring(alpha=0.0)
    replay.add(transitions(4))
    replay.set_errors(np.arange(4), np.asarray([0, 1, 30, 5], np.float32))
    batch = replay.sample(400, np.random.default_rng(0))
    assert np.bincount(batch.slots).tolist() == [100, 100, 100, 100]
    assert batch.weight.tolist() == [1.0] * 400


@pytest.mark.parametrize("storage", ["float16", "float32"])
@pytest.mark.parametrize("capacity", [16, 64])
def test_restored_ring_draws_the_same(storage: str, capacity: int) -> None:
    replay = ring(capacity, storage=storage)
    assembler = NStepAssembler(2, 0.9)
    windows = [columns(toy.walk(60)[i : i + 10]) for i in range(0, 60, 10)]
    for number, rows in enumerate(windows):
        replay.add(assembler.fold(rows, number))
    replay.set_errors(np.arange(8), np.arange(8, dtype=np.float32))
    again = ring(capacity, storage=storage)
    again.restore(replay.state())
    for number in sorted(again.windows()):
        again.fill(number, windows[number])
    ours, theirs = (r.sample(32, np.random.default_rng(5)) for r in (replay, again))
    for name in ours.__dataclass_fields__:
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
