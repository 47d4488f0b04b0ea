"""The sum tree against plain arithmetic over its leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.replay.sumtree import SumTree

priorities = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=40)


def naive_find(leaves: list[float], mass: float) -> int:
    """The slot in whose interval the mass falls, by summing from the left."""
    for slot, priority in enumerate(leaves):
        if mass < priority:
            return slot
        mass -= priority
    return max(i for i, p in enumerate(leaves) if p > 0)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=40), st.data())
def test_find_agrees_with_a_linear_search(leaves: list[int], data: st.DataObject) -> None:
    tree = SumTree(len(leaves))
    tree.set(np.arange(len(leaves)), np.asarray(leaves, np.float64))
    assert tree.total == sum(leaves)
    if not sum(leaves):
        return
    mass = data.draw(st.integers(0, sum(leaves) - 1)) + 0.5  # exact in float64
    (slot,) = tree.find(np.asarray([mass]))
    assert slot == naive_find([float(p) for p in leaves], mass)


@given(priorities, st.integers(0, 2**32))
def test_find_never_returns_an_empty_slot(leaves: list[float], seed: int) -> None:
    tree = SumTree(len(leaves))
    tree.set(np.arange(len(leaves)), np.asarray(leaves))
    if tree.total == 0:
        return
    masses = np.random.default_rng(seed).random(64) * tree.total
    masses[:2] = (0.0, tree.total)  # the total itself, as rounding may give it
    assert all(leaves[slot] > 0 for slot in tree.find(masses))


@given(st.integers(1, 40), st.data())
def test_updates_leave_the_tree_that_its_leaves_make(capacity: int, data: st.DataObject) -> None:
    slots = st.lists(st.integers(0, capacity - 1), min_size=1, max_size=20, unique=True)
    tree = SumTree(capacity)
    for _ in range(data.draw(st.integers(1, 4))):
        chosen = data.draw(slots)
        values = data.draw(st.lists(st.floats(0, 10), min_size=len(chosen), max_size=len(chosen)))
        tree.set(np.asarray(chosen), np.asarray(values))
    fresh = SumTree(capacity)
    fresh.set(np.arange(capacity), tree.leaves())
    assert fresh.total == tree.total
    masses = np.linspace(0, tree.total, 50)
    assert fresh.find(masses).tolist() == tree.find(masses).tolist()


def test_set_of_a_long_run_gives_the_same_sums() -> None:
    values = np.random.default_rng(0).random(2_000)
    at_once, one_by_one = SumTree(2_000), SumTree(2_000)
    at_once.set(np.arange(2_000), values)
    for slot in range(2_000):
        one_by_one.set(np.asarray([slot]), values[slot : slot + 1])
    assert at_once.total == one_by_one.total
    assert at_once.total == pytest.approx(values.sum())


def test_sampling_is_proportional() -> None:
    tree = SumTree(4)
    tree.set(np.arange(4), np.asarray([1.0, 2.0, 0.0, 5.0]))
    masses = np.random.default_rng(0).random(80_000) * tree.total
    shares = np.bincount(tree.find(masses), minlength=4) / 80_000
    assert shares == pytest.approx([1 / 8, 2 / 8, 0, 5 / 8], abs=0.01)
