"""A sum tree over priorities; a whole batch goes down or up one level at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class SumTree:
    """Priorities of ``capacity`` slots with prefix-sum search (Schaul et al. 2016, appendix B.2.1).

    Every inner node is recomputed from its two children, never adjusted by a difference: no error
    gathers, and the tree is a function of its leaves, so it can be rebuilt bit for bit.
    """

    def __init__(self, capacity: int) -> None:
        """Make an empty tree: all priorities are 0."""
        self.capacity = capacity
        self._levels = max(1, (capacity - 1).bit_length())
        self._n_leaves = 1 << self._levels
        self._nodes: Floats = np.zeros(2 * self._n_leaves)

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._nodes[1])

    def set(self, slots: Ints, priorities: Floats) -> None:
        """Set priorities [B] of slots [B]; of a slot named twice the last one counts."""
        nodes = slots + self._n_leaves
        self._nodes[nodes] = priorities
        if nodes.size > 512:  # a run of slots shares most of its parents
            nodes = np.unique(nodes)
        for _ in range(self._levels):
            nodes = nodes >> 1
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def get(self, slots: Ints) -> Floats:
        """Return the priorities [B] of slots [B]."""
        return self._nodes[slots + self._n_leaves]

    def find(self, masses: Floats) -> Ints:
        """Return for each mass [B] in [0, total) the slot in whose interval it falls.

        Never a slot of priority 0 while any other exists, whatever rounding does.
        """
        nodes = np.ones(masses.shape, dtype=np.int64)
        left_over = masses.astype(np.float64, copy=True)
        for _ in range(self._levels):
            left = 2 * nodes
            in_left = self._nodes[left]
            right = (left_over >= in_left) & (self._nodes[left + 1] > 0.0)
            left_over -= np.where(right, in_left, 0.0)
            nodes = left + right
        return nodes - self._n_leaves

    def leaves(self) -> Floats:
        """Return a copy of all priorities [capacity]."""
        return self._nodes[self._n_leaves : self._n_leaves + self.capacity].copy()
