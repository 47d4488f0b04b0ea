"""The ring that windows fill: what it holds, what it draws, and how it is rebuilt."""

from __future__ import annotations

import numpy as np
import pytest

from learners.replay.buffer import PrioritisedReplay
from learners.replay.form import Storage
from learners.replay.stacked import PRIORITY_FLOOR
from tests.learners import toy
from tests.learners.test_nstep import account, columns, transitions


def ring(
    capacity: int = 64, alpha: float = 1.0, storage: Storage = "float32", n: int = 1, kept: int = 0
) -> PrioritisedReplay:
    return PrioritisedReplay(
        toy.SHAPE, capacity, n_step=n, discount=0.9, alpha=alpha, beta=0.5, storage=storage,
        kept=kept,
    )  # fmt: skip


def filled(replay: PrioritisedReplay, n: int, sizes: list[int] | None = None) -> PrioritisedReplay:
    rows, start = columns(toy.walk(n)), 0
    for number, size in enumerate(sizes or [n]):
        replay.fold(rows.take(np.arange(start, start + size)), number)
        start += size
    return replay


def priorities(replay: PrioritisedReplay) -> list[float]:
    return [float(priority) for priority in replay.stack.priorities()[0]]


def held(replay: PrioritisedReplay, n: int) -> set[bytes]:
    return {row.tobytes() for row in replay.observations(n)}


def test_ring_keeps_the_newest() -> None:
    replay = filled(ring(8), 20)
    assert len(replay) == 8
    given = columns(toy.walk(20)).observation
    assert held(replay, 8) == {row.tobytes() for row in given[12:]}


@pytest.mark.parametrize("sizes", [[20], [3, 9, 8], [1] * 20, [2, 18]])
def test_ring_never_forgets_the_first_rows(sizes: list[int]) -> None:
    replay = filled(ring(8, kept=3), 20, sizes)
    given = columns(toy.walk(20)).observation
    wanted = {row.tobytes() for row in given[[0, 1, 2, 15, 16, 17, 18, 19]]}
    assert held(replay, 8) == wanted
    assert len(replay) == 8


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kept", [0, 10])
@pytest.mark.parametrize("say_next", [True, False])
def test_adding_at_once_or_bit_by_bit_is_the_same(n: int, kept: int, say_next: bool) -> None:
    found = []
    for size in (1, 3, 7, 150):
        replay = ring(40, n=n, kept=kept)
        rows = columns(toy.walk(150, say_next=say_next))
        for start in range(0, 150, size):
            replay.fold(rows.take(np.arange(start, min(150, start + size))), start)
        found.append((account(transitions(replay)), priorities(replay), replay.dropped["broken"]))
    assert all(other == found[0] for other in found)
    assert len(found[0][0]) > 20


def test_what_is_kept_bootstraps_what_it_did() -> None:
    """Also where the row that followed was overwritten since."""
    rows = columns(toy.walk(200, say_next=False))
    whole, small = ring(200, n=3), ring(60, n=3, kept=30)
    for start in range(0, 200, 20):
        for replay in (whole, small):
            replay.fold(rows.take(np.arange(start, start + 20)), start)
    everything = set(account(transitions(whole)))
    kept = account(transitions(small))[:25]
    assert set(kept) <= everything
    assert len(small) > 50


def test_priorities_and_importance_weights_by_hand() -> None:
    replay = filled(ring(), 4)
    errors = np.asarray([0.0, 1.0, -3.0, 0.5], np.float32)
    replay.set_errors(np.arange(4), errors)
    priority = np.abs(errors) + PRIORITY_FLOOR
    assert priorities(replay)[:4] == pytest.approx(priority.tolist(), rel=1e-3)
    batch = replay.sample(400, np.random.default_rng(0))
    shares = np.bincount(batch.slots, minlength=4) / 400
    assert shares == pytest.approx(priority / priority.sum(), abs=0.01)
    # (N P(i)) ** -beta over the largest of the batch, the rarest transition's
    rarest = priority[batch.slots].min()
    wanted = (priority[batch.slots] / rarest) ** -0.5
    assert batch.weight == pytest.approx(wanted, rel=1e-3)


def test_new_transitions_get_the_largest_priority_seen() -> None:
    replay, rows = ring(), columns(toy.walk(4))
    replay.fold(rows.take(np.arange(3)), 0)
    replay.set_errors(np.asarray([1]), np.asarray([6.0], np.float32))
    replay.fold(rows.take(np.asarray([3])), 1)
    assert priorities(replay)[3] == pytest.approx(6.0 + PRIORITY_FLOOR)


def test_alpha_zero_is_uniform() -> None:
    replay = filled(ring(alpha=0.0), 4)
    replay.set_errors(np.arange(4), np.asarray([0, 1, 30, 5], np.float32))
    batch = replay.sample(400, np.random.default_rng(0))
    assert np.bincount(batch.slots).tolist() == [100, 100, 100, 100]
    assert batch.weight.tolist() == [1.0] * 400


@pytest.mark.parametrize("storage", ["float16", "float32"])
@pytest.mark.parametrize(("capacity", "kept"), [(16, 0), (64, 0), (32, 12)])
@pytest.mark.parametrize("say_next", [True, False])
def test_restored_ring_draws_the_same(
    storage: Storage, capacity: int, kept: int, say_next: bool
) -> None:
    replay = ring(capacity, storage=storage, n=2, kept=kept)
    walk = toy.walk(60, say_next=say_next)
    windows = [columns(walk[i : i + 10]) for i in range(0, 60, 10)]
    for number, rows in enumerate(windows):
        replay.fold(rows, number)
    slots = replay.stack.ready_slots(0)[:8]
    replay.set_errors(slots, np.arange(len(slots), dtype=np.float32))
    again = ring(capacity, storage=storage, n=2, kept=kept)
    again.restore(replay.state())
    for number in sorted(again.windows()):
        again.fill(number, windows[number])
    ours, theirs = (r.sample(32, np.random.default_rng(5)) for r in (replay, again))
    for name in ours.__struct_fields__:
        if name != "columns":
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert np.array_equal(ours.columns["demonstration"], theirs.columns["demonstration"])
