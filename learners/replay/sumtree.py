"""A sum tree of two levels over the priorities of S rings, drawn from in one sweep."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNIT = 2.0**-20
"""Priorities are whole numbers of it, so that sums are exact in whatever order they are made."""

MAX_UNITS = 2**32 - 1
"""A priority beyond 4,096 counts as 4,096: two million of them still add up exactly."""

MIN_SHIFT, MAX_SHIFT = 3, 6
"""A block is of 8 to 64 slots: the running sum over all blocks is to cost no more than that over
the slots of some 2,000 blocks that a sweep of several batches hits."""

MAX_FAN = 1 << MAX_SHIFT


class SumTree:
    """Priorities of S x ``capacity`` slots and a search by prefix sum (Schaul et al. 2016, B.2.1).

    Differs from the paper's binary tree: slots lie in blocks whose sums are kept, and a batch is
    found by one running sum over all blocks' sums and one over the blocks that were hit, for numpy
    takes about as long for a level of a batch as for thousands of additions. Priorities are kept
    as integers, so no error gathers, equal leaves make an equal tree, and a ring's draws do not
    depend on the rings beside it.
    """

    def __init__(self, capacity: int, n_models: int = 1) -> None:
        """Make an empty tree: all priorities are 0."""
        self.capacity, self.n_models = capacity, n_models
        shift = MIN_SHIFT
        while shift < MAX_SHIFT and capacity > 4096 << 2 * shift:
            shift += 1
        self._shift, self._fan = shift, 1 << shift
        fan = self._fan
        self.stride = capacity + -capacity % MAX_FAN
        """Slot i of ring s is leaf ``s * stride + i``."""
        self._n_blocks = self.stride // fan
        self._rows = np.zeros((n_models * self._n_blocks, fan), np.int64)
        self._leaves = self._rows.reshape(-1)
        self._sums = np.zeros(n_models * self._n_blocks, np.int64)
        self._named = np.zeros(n_models * self.stride, np.int32)
        """Who named a leaf last: no more than a note while priorities are set."""
        self._counted = np.zeros(0, np.int64)

    @property
    def totals(self) -> Floats:
        """Sum of the priorities of each ring [S]."""
        sums = self._sums.reshape(self.n_models, -1).sum(1)
        totals: Floats = sums * UNIT
        return totals

    def set(self, leaves: Ints, priorities: NDArray[np.floating[Any]]) -> None:
        """Set priorities [B] of leaves [B]; of a leaf named twice the last one counts.

        They are rounded up to the next unit, so that none that is positive becomes 0.
        """
        units = np.multiply(priorities, 1.0 / UNIT, dtype=np.float64)
        np.minimum(units, MAX_UNITS, out=units)
        self.set_units(leaves, np.ceil(units, out=units).astype(np.int64))

    def set_units(self, leaves: Ints, units: Ints) -> None:
        """Set priorities given in units; see `set`."""
        before = self._leaves.take(leaves)
        self._leaves[leaves] = units
        change = self._leaves.take(leaves)
        change -= before
        order = self._numbers(len(leaves))
        self._named[leaves] = order
        change *= self._named.take(leaves) == order  # what is named twice counts once
        np.add.at(self._sums, leaves >> self._shift, change)

    def get(self, leaves: Ints) -> Floats:
        """Return the priorities of leaves."""
        return np.asarray(self._leaves.take(leaves) * UNIT, np.float64)

    def get_units(self, leaves: Ints) -> Ints:
        """Return the priorities of leaves, of whatever shape, in units."""
        return np.asarray(self._leaves.take(leaves))

    def draw(self, shares: Floats) -> Ints:
        """Return the leaves [S, B] in whose intervals shares [S, B] in [0, 1] of the totals fall.

        Never a leaf of priority 0 while the ring has another; a row of rising shares gives rising
        leaves.
        """
        running = self._sums.cumsum()
        if self.n_models == 1:
            total = running[-1]
            masses = (shares * total).astype(np.int64)
            np.minimum(masses, total - 1, out=masses)
        else:
            ends = running[self._n_blocks - 1 :: self._n_blocks, None]
            totals = ends.copy()
            totals[1:] -= ends[:-1]
            masses = (shares * totals).astype(np.int64)
            np.minimum(masses, totals - 1, out=masses)
            masses[1:] += ends[:-1]
        return self._find(masses.reshape(-1), running).reshape(shares.shape)

    def _find(self, masses: Ints, running: Ints) -> Ints:
        block = running.searchsorted(masses, "right")
        masses -= running.take(block, mode="clip")  # less the end of its block: negative
        flat = self._rows.take(block, 0, mode="clip").reshape(-1).cumsum()
        masses += flat[self._fan - 1 :: self._fan]
        leaf = (flat.reshape(-1, self._fan) > masses[:, None]).argmax(1)  # each row has one
        block <<= self._shift
        block += leaf
        return block

    def _numbers(self, n: int) -> Ints:
        if len(self._counted) < n:
            self._counted = np.arange(n)
        return self._counted[:n]

    def units(self, model: int) -> Ints:
        """Return a copy of a ring's priorities [capacity] in units."""
        first = model * self.stride
        return self._leaves[first : first + self.capacity].copy()

    def restore(self, model: int, units: Ints) -> None:
        """Take a ring's `units`; the tree is the same as the one they came from."""
        first, n = model * self.stride, self.stride
        self._leaves[first : first + n] = 0
        self._leaves[first : first + len(units)] = units
        self._sums.reshape(self.n_models, -1)[model] = (
            self._leaves[first : first + n].reshape(-1, self._fan).sum(1)
        )
