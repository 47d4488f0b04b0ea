"""The sum tree against plain arithmetic over its leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learners.replay.sumtree import MAX_UNITS, UNIT, SumTree


def naive_find(leaves: list[float], mass: float) -> int:
    """The slot in whose interval the mass falls, by summing from the left."""
    for slot, priority in enumerate(leaves):
        if mass < priority:
            return slot
        mass -= priority
    return max(i for i, p in enumerate(leaves) if p > 0)


levels = st.lists(st.integers(0, 100), min_size=1, max_size=90)


def tree_of(*rings: list[int]) -> SumTree:
    """A tree over rings of one length, whose priorities are whole numbers."""
    tree = SumTree(len(rings[0]), len(rings))
    for i, leaves in enumerate(rings):
        first = i * tree.stride
        tree.set(np.arange(first, first + len(leaves)), np.asarray(leaves, np.float64))
    return tree


@settings(deadline=None, max_examples=60)
@given(levels, st.data())
def test_draw_agrees_with_a_linear_search(leaves: list[int], data: st.DataObject) -> None:
    tree = tree_of(leaves)
    assert tree.totals.tolist() == [sum(leaves)]
    if not sum(leaves):
        return
    mass = data.draw(st.integers(0, sum(leaves) - 1)) + 0.5
    assert tree.draw(np.asarray([[mass / sum(leaves)]])).item() == naive_find(
        [float(p) for p in leaves], mass
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=90), st.integers(0, 2**32))
def test_draw_never_returns_an_empty_slot(leaves: list[float], seed: int) -> None:
    tree = SumTree(len(leaves))
    tree.set(np.arange(len(leaves)), np.asarray(leaves))
    if not tree.totals[0]:
        return
    shares = np.random.default_rng(seed).random((1, 64))
    shares[0, :2] = (0.0, 1.0)
    assert all(leaves[slot] > 0 for slot in tree.draw(shares)[0])


@settings(deadline=None, max_examples=60)
@given(levels, st.integers(0, 2**32))
def test_rings_do_not_touch_each_other(leaves: list[int], seed: int) -> None:
    if not sum(leaves):
        return
    rng = np.random.default_rng(seed)
    beside = rng.integers(0, 5, len(leaves))
    beside[0] = 1
    alone, both = tree_of(leaves), tree_of(beside.tolist(), leaves)
    shares = rng.random((2, 16))
    assert np.array_equal(both.draw(shares)[1] - both.stride, alone.draw(shares[1:])[0])
    assert both.totals[1] == alone.totals[0]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.data())
def test_updates_leave_the_tree_that_its_leaves_make(capacity: int, data: st.DataObject) -> None:
    """Also where slots are named twice, in whatever order: the last one counts."""
    tree, leaves = SumTree(capacity), np.zeros(capacity)
    for _ in range(data.draw(st.integers(1, 4))):
        slots = data.draw(st.lists(st.integers(0, capacity - 1), min_size=1, max_size=20))
        slots = sorted(slots) if data.draw(st.booleans()) else slots
        values = data.draw(st.lists(st.floats(0, 10), min_size=len(slots), max_size=len(slots)))
        tree.set(np.asarray(slots), np.asarray(values))
        for slot, value in zip(slots, values, strict=True):
            leaves[slot] = value
    assert tree.get(np.arange(capacity)) == pytest.approx(leaves, abs=UNIT)
    fresh = SumTree(capacity)
    fresh.restore(0, tree.units(0))
    assert fresh.totals.tolist() == tree.totals.tolist()
    assert tree.totals[0] == pytest.approx(tree.get(np.arange(capacity)).sum())
    if tree.totals[0]:
        shares = np.linspace(0, 1, 50)[None]
        assert fresh.draw(shares).tolist() == tree.draw(shares).tolist()


def test_large_trees_agree_with_the_running_sum() -> None:
    """Of as many blocks as a ring of trainings has, in several parts."""
    rng = np.random.default_rng(0)
    n = 200_000
    values = rng.exponential(size=n)
    tree = SumTree(n)
    for start in range(0, n, 7_000):
        chosen = np.arange(start, min(n, start + 7_000))
        tree.set(chosen, values[chosen])
    units = tree.units(0)
    shares = np.sort(rng.random(1_000))
    wanted = np.searchsorted(units.cumsum(), (shares * units.sum()).astype(np.int64), "right")
    assert np.array_equal(tree.draw(shares[None])[0], wanted)


def test_priorities_beyond_the_largest_count_as_it() -> None:
    tree = SumTree(3)
    tree.set(np.arange(3), np.asarray([0.0, 1e-12, 1e9]))
    assert tree.get(np.arange(3)).tolist() == [0.0, UNIT, MAX_UNITS * UNIT]


def test_blocks_of_the_largest_priorities_add_up() -> None:
    tree = SumTree(20)
    tree.set(np.arange(20), np.full(20, 1e9))
    assert tree.totals.tolist() == [20 * MAX_UNITS * UNIT]
    assert tree.draw((np.arange(20)[None] + 0.5) / 20)[0].tolist() == list(range(20))


def test_draws_are_proportional() -> None:
    tree = tree_of([1, 2, 0, 5])
    shares = np.bincount(tree.draw(np.random.default_rng(0).random((1, 80_000)))[0], minlength=4)
    assert shares / 80_000 == pytest.approx([1 / 8, 2 / 8, 0, 5 / 8], abs=0.01)
