"""A sum tree of two levels over the priorities of S rings, drawn from in one sweep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNIT = 2.0**-20
"""Priorities are whole numbers of it, so that sums are exact in whatever order they are made."""

MAX_UNITS = 2**32 - 1
"""A priority beyond 4,096 counts as 4,096: two million of them still add up exactly."""

MIN_FAN, MAX_FAN = 32, 128
"""Slots a block: measured best between the square root of capacity / 32 and these bounds."""


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
        fan = MIN_FAN
        while fan < MAX_FAN and n_models * capacity > 4096 * fan:
            fan *= 2
        self._fan = fan
        self._n_blocks = -(-capacity // fan)
        self._rows = np.zeros((n_models * self._n_blocks, fan), np.int64)
        self._leaves = self._rows.reshape(-1)
        self._sums = np.zeros(n_models * self._n_blocks, np.int64)
        self.stride = self._n_blocks * fan
        """Slot i of ring s is leaf ``s * stride + i``."""

    @property
    def totals(self) -> Floats:
        """Sum of the priorities of each ring [S]."""
        sums = self._sums.reshape(self.n_models, -1).sum(1)
        totals: Floats = sums * UNIT
        return totals

    def set(self, leaves: Ints, priorities: Floats) -> None:
        """Set priorities [B] of leaves [B]; of a leaf named twice the last one counts.

        A positive priority too small for a unit becomes one unit.
        """
        units = np.ceil(priorities * (1.0 / UNIT))
        np.minimum(units, MAX_UNITS, out=units)
        self.set_units(leaves, units.astype(np.int64))

    def set_units(self, leaves: Ints, units: Ints) -> None:
        """Set priorities given in units; see `set`."""
        before = self._leaves.take(leaves)
        self._leaves[leaves] = units
        change = self._leaves.take(leaves)
        change -= before
        if leaves.size > 1:
            if (leaves[1:] > leaves[:-1]).all():
                pass
            elif (leaves[1:] >= leaves[:-1]).all():  # as a search returns them
                change[1:] *= leaves[1:] != leaves[:-1]
            else:
                _, first = np.unique(leaves, return_index=True)
                leaves, change = leaves[first], change[first]
        np.add.at(self._sums, leaves // self._fan, change)

    def get(self, leaves: Ints) -> Floats:
        """Return the priorities [B] of leaves [B]."""
        return np.asarray(self._leaves.take(leaves) * UNIT, np.float64)

    def draw(self, shares: Floats) -> Ints:
        """Return the leaves [S, B] in whose intervals shares [S, B] in [0, 1] of the totals fall.

        Never a leaf of priority 0 while the ring has another; a row of rising shares gives rising
        leaves.
        """
        running = self._sums.cumsum()
        totals = running[self._n_blocks - 1 :: self._n_blocks].copy()
        before = np.zeros_like(totals)
        before[1:] = totals[:-1]
        totals -= before
        masses = (shares * totals[:, None]).astype(np.int64)
        np.minimum(masses, totals[:, None] - 1, out=masses)
        masses += before[:, None]
        return self._find(masses.reshape(-1), running).reshape(shares.shape)

    def _find(self, masses: Ints, running: Ints) -> Ints:
        fan = self._fan
        block = running.searchsorted(masses, "right")
        np.minimum(block, len(running) - 1, out=block)
        inside = running.take(block)
        np.subtract(masses, inside, out=inside)  # mass less the end of its block: negative
        flat = self._rows.take(block, 0).reshape(-1).cumsum()
        inside += flat[fan - 1 :: fan]
        leaf = flat.searchsorted(inside, "right")
        leaf -= self._first_lanes(len(block))
        block *= fan
        block += leaf
        return block

    def _first_lanes(self, n: int) -> Ints:
        return np.arange(0, n * self._fan, self._fan)

    def units(self) -> Ints:
        """Return a copy of all priorities [S, capacity] in units."""
        return self._leaves.reshape(self.n_models, -1)[:, : self.capacity].copy()

    def restore(self, units: Ints) -> None:
        """Take `units`; the tree is the same as the one they came from."""
        self._rows[:] = 0
        self._leaves.reshape(self.n_models, -1)[:, : units.shape[1]] = units
        self._sums[:] = self._rows.sum(1)
