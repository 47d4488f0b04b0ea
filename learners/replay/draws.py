"""Priorities of S rings: what is drawn, how much it weighs, and what errors make of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.replay.sumtree import SumTree

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]

PRIORITY_FLOOR = 1e-3
"""Added to each |TD error|, so that no transition starves; rewards lie in [-1, 1]."""


class Draws:
    """Draws several batches in one sweep, and works off the errors of several in one."""

    def __init__(self, capacity: int, seeds: Sequence[int], alpha: float, beta: float) -> None:
        """Begin with nothing to draw from."""
        self.tree = SumTree(capacity, len(seeds))
        self._alpha, self._beta = np.float32(alpha), np.float32(beta)
        self.first: Ints = (np.arange(len(seeds)) * self.tree.stride)[:, None]
        """Row of each model's slot 0 [S, 1]."""
        self.n_ready: Ints = np.zeros(len(seeds), np.int64)
        self._largest = np.ones(len(seeds), np.float32)
        self._rngs = [np.random.default_rng(seed) for seed in seeds]
        self._numbers: NDArray[np.float64] = np.zeros(0)
        self._told: list[tuple[Ints, NDArray[np.float32]]] = []

    def changed(self, model: int, slots: Ints, ready: Ints) -> None:
        """Take note that slots were written, and that some can be drawn now.

        They get the largest priority that any of the model's transitions ever had.
        """
        self.settle()
        first = self.first[model, 0]
        rows, ready_rows = slots + first, ready + first
        self.n_ready[model] -= int(np.count_nonzero(self.tree.get_units(rows)))
        self.tree.set_units(rows, np.zeros(len(rows), np.int32))
        self.tree.set(ready_rows, np.full(len(ready), self._largest[model]))
        self.n_ready[model] += len(ready)

    def draw(
        self, n_batches: int, batch: int, rngs: Sequence[np.random.Generator] | None = None
    ) -> tuple[Ints, NDArray[np.float32]]:
        """Return rows [K, S, B] and their importance weights.

        Each batch has one row from each of B equal strata of the sum. With K batches a stratum is
        cut into K, which the batches take in an order of their own: each is spread as one drawn
        alone, and all together are spread more evenly.
        """
        self.settle()
        n, chosen = n_batches * batch, rngs or self._rngs
        shares = np.empty((len(chosen), n))
        for row, rng in zip(shares, chosen, strict=True):
            rng.random(out=row)
        shares += self._strata(n)
        shares *= 1.0 / n
        rows = self.tree.draw(shares)
        if n_batches == 1:
            dealt = rows[None]
        else:
            dealt = np.empty((n_batches, len(chosen), batch), np.int64)
            for model, rng in enumerate(chosen):
                parts = rows[model].reshape(batch, n_batches).T
                dealt[:, model] = parts[rng.permutation(n_batches)]
        units = self.tree.get_units(dealt).astype(np.float32)
        np.divide(units.min(2, keepdims=True), units, out=units)
        return dealt, _power(units, self._beta)

    def _strata(self, n: int) -> Floats:
        """Return the numbers of n strata."""
        if len(self._numbers) != n:
            self._numbers = np.arange(n, dtype=np.float64)
        return self._numbers

    def tell(self, rows: Ints, errors: Floats) -> None:
        """Take the errors [S, B] of rows; they count from the next draw on."""
        self._told.append((rows, np.array(errors, np.float32)))

    def settle(self) -> None:
        """Make priorities ``(|error| + floor) ** alpha`` of the errors told since."""
        if not self._told:
            return
        rows, errors = self._told[0]
        if len(self._told) > 1:
            rows = np.concatenate([rows for rows, _ in self._told], axis=1)
            errors = np.concatenate([errors for _, errors in self._told], axis=1)
        self._told.clear()
        np.abs(errors, out=errors)
        errors += PRIORITY_FLOOR
        priorities = _power(errors, self._alpha)
        np.maximum(self._largest, priorities.max(1), out=self._largest)
        if not math.isfinite(self._largest.max()):
            msg = f"$.errors must be finite; got a largest of {self._largest.max()}"
            raise ValueError(msg)
        self.tree.set(rows.reshape(-1), priorities.reshape(-1))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that the next draw depends on."""
        self.settle()
        state: dict[str, NDArray[Any]] = {
            "largest": self._largest.copy(), "ready": self.n_ready.copy(),
        }  # fmt: skip
        for i, rng in enumerate(self._rngs):  # JSON: it has integers of 128 bits
            text = json.dumps(rng.bit_generator.state).encode()
            state[f"{i}.rng"] = np.frombuffer(text, np.uint8).copy()
            state[f"{i}.priority"] = self.tree.units(i)
        return state

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take a `state`."""
        self._told.clear()
        self._largest[:], self.n_ready[:] = state["largest"], state["ready"]
        for i, rng in enumerate(self._rngs):
            rng.bit_generator.state = json.loads(bytes(state[f"{i}.rng"].tobytes()))
            self.tree.restore(i, state[f"{i}.priority"])


def _power(values: NDArray[np.float32], exponent: np.float32) -> NDArray[np.float32]:
    """Return positive values to a power, in their place: a third of the price of `np.power`."""
    np.log(values, out=values)
    values *= exponent
    return np.exp(values, out=values)
