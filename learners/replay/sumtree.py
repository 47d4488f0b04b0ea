"""A sum tree of two levels over the priorities of S rings, drawn from in one sweep."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.replay.store import aligned_zeros

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Units = NDArray[np.int32]

UNIT = 2.0**-20
"""Priorities are whole numbers of it, so that sums are exact in whatever order they are made."""

MAX_UNITS = 2**27
"""A priority beyond 128 counts as 128: those of a block add up in 32 bits, of all in 64."""

SHIFT = 3
"""A block is of 8 slots: as many as there are bytes to count at once, and about as few as make the
running sum over all blocks no dearer than that over the 4,096 blocks a sweep of batches hits."""

FAN = 1 << SHIFT


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
        self.stride = capacity + -capacity % FAN
        """Slot i of ring s is leaf ``s * stride + i``."""
        self._n_blocks = self.stride // FAN
        self._rows = aligned_zeros((n_models * self._n_blocks, FAN), np.dtype(np.int32))
        self._leaves = self._rows.reshape(-1)
        self._sums = np.zeros(n_models * self._n_blocks, np.int64)
        self._counted = np.zeros(0, np.int32)

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
        units = priorities * (1.0 / UNIT)  # exact, in whatever precision they come
        np.minimum(units, float(MAX_UNITS), out=units)
        self.set_units(leaves, np.ceil(units, out=units).astype(np.int32))

    def set_units(self, leaves: Ints, units: Units) -> None:
        """Set priorities given in units; see `set`."""
        change = units - self._leaves.take(leaves)
        order = self._numbers(len(leaves))
        self._leaves[leaves] = order  # a note who named a leaf last: only that one counts
        change *= self._leaves.take(leaves) == order
        self._leaves[leaves] = units
        np.add.at(self._sums, leaves >> SHIFT, change.astype(np.int64))

    def get(self, leaves: Ints) -> Floats:
        """Return the priorities of leaves."""
        return np.asarray(self._leaves.take(leaves) * UNIT, np.float64)

    def get_units(self, leaves: Ints) -> Units:
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
        starts = self._sums.take(block, mode="clip")
        starts += masses
        starts[1:] -= masses[:-1]
        rows = self._rows.take(block, 0, mode="clip")
        # One running sum over all rows, in each of which it begins at minus the mass looked for in
        # its block: the leaf is the first where it is above 0.
        rows[:, 0] -= starts.astype(np.int32)
        passed = rows.reshape(-1).cumsum(dtype=np.int32) <= 0
        block <<= SHIFT
        block += np.bitwise_count(passed.view(np.uint64))  # of a block's leaves
        return block

    def _numbers(self, n: int) -> Units:
        if len(self._counted) < n:
            self._counted = np.arange(n, dtype=np.int32)
        return self._counted[:n]

    def units(self, model: int) -> Units:
        """Return a copy of a ring's priorities [capacity] in units."""
        first = model * self.stride
        return self._leaves[first : first + self.capacity].copy()

    def restore(self, model: int, units: Units) -> None:
        """Take a ring's `units`; the tree is the same as the one they came from."""
        first, n = model * self.stride, self.stride
        self._leaves[first : first + n] = 0
        self._leaves[first : first + len(units)] = units
        self._sums.reshape(self.n_models, -1)[model] = (
            self._leaves[first : first + n].reshape(-1, FAN).sum(1, dtype=np.int64)
        )
