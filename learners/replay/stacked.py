"""S prioritised rings side by side, filled one by one and drawn from all at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.replay.form import Batch, RowForm, Sequences, Steps
from learners.replay.ring import VECTORS, Arrays, Ring, RingSettings, column_shapes
from learners.replay.sequences import walk_sequences
from learners.replay.store import allocate
from learners.replay.sumtree import SumTree

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]

PRIORITY_FLOOR = 1e-3
"""Added to each |TD error|, so that no transition starves; rewards lie in [-1, 1]."""


class StackedReplay:
    """Proportional prioritised replay (Schaul et al. 2016) for S models, stratified, vectorised.

    Model i's rows and draws depend on its own rows and seed alone, whatever lies beside it. Differs
    from the paper: importance weights are divided by the batch's largest, beta stays where it is
    set, and n-step returns are made when rows come, so that a draw is one look-up. A new transition
    gets the largest priority any transition of its model ever had.
    """

    def __init__(
        self,
        form: RowForm,
        capacity: int,
        seeds: Sequence[int],
        *,
        n_step: int = 1,
        discount: float = 0.99,
        alpha: float = 0.6,
        beta: float = 0.4,
        kept: int = 0,
        folder: Path | None = None,
    ) -> None:
        """Make S = ``len(seeds)`` empty rings of ``capacity`` rows; memory is touched as they fill.

        Args:
            form: what a row holds.
            capacity: rows a model.
            seeds: of each model's draws.
            n_step: steps of a return.
            discount: gamma.
            alpha: power of |error| in priorities; 0 draws uniformly.
            beta: how far importance weights correct for it.
            kept: the first rows that are never overwritten.
            folder: columns are memory-mapped files there; None: they lie in memory.
        """
        settings = RingSettings(capacity, min(kept, capacity - 1), n_step, discount)
        self.form, self.settings, self.n_models = form, settings, len(seeds)
        self.alpha, self.beta = alpha, beta
        shapes = column_shapes(form, settings)
        self._columns: Arrays = allocate(shapes, self.n_models, folder)
        self._flat = {k: v.reshape(-1, *v.shape[2:]) for k, v in self._columns.items()}
        self.rings = [
            Ring(form, settings, {k: v[i] for k, v in self._columns.items()})
            for i in range(self.n_models)
        ]
        self._tree = SumTree(capacity, self.n_models)
        self._largest = np.ones(self.n_models)
        self._rngs = [np.random.default_rng(seed) for seed in seeds]
        models = np.arange(self.n_models)[:, None]
        self._leaf0, self._slot0 = models * self._tree.stride, models * capacity
        self._place0 = models * settings.n_places
        self._ready = np.zeros(self.n_models, np.int64)

    @property
    def sizes(self) -> Ints:
        """Transitions of each model [S] that can be sampled."""
        return self._ready.copy()

    def add(self, model: int, steps: Steps) -> int:
        """Append steps of one model; returns how many transitions can be sampled since.

        Steps of several ticks are best added together: a call costs about as much as a thousand
        rows. A step becomes a transition when what its return needs has come.
        """
        first, n = self._leaf0[model, 0], 0
        for slots, ready in self.rings[model].add(steps):
            leaves = slots + first
            self._ready[model] -= int(np.count_nonzero(self._tree.get(leaves)))
            self._tree.set_units(leaves, np.zeros(len(leaves), np.int64))
            self._tree.set(ready + first, np.full(len(ready), self._largest[model]))
            self._ready[model] += len(ready)
            n += len(ready)
        return n

    def sample(self, batch: int, rngs: Sequence[np.random.Generator] | None = None) -> Batch:
        """Return transitions drawn in proportion to priority, one from each of B equal strata.

        Every model must have one at least (see `sizes`).
        """
        leaves = self._draw(batch, rngs)
        return self._read(leaves - self._leaf0, self._weights(leaves))

    def read(self, slots: Ints) -> Batch:
        """Return the transitions of slots [S, B], those of `ready_slots`; all weights are 1."""
        return self._read(slots, np.ones(slots.shape, np.float32))

    def ready_slots(self, model: int) -> Ints:
        """Return the slots of one model that can be sampled, rising."""
        return np.flatnonzero(self.priorities()[model])

    def _read(self, slots: Ints, weight: NDArray[np.float32]) -> Batch:
        rows = slots + self._slot0
        after = self._flat["after"].take(rows) + self._place0
        places = slots + self._place0
        return Batch(
            observation=self._take("vector", places),
            legal=self._legal(places),
            next_observation=self._take("vector", after),
            next_legal=self._legal(after),
            action=self._action(rows),
            reward=self._take("returns", rows),
            discount=self._take("discount", rows),
            weight=weight,
            slots=slots,
            columns={name: self._take(name, rows) for name in self.form.columns},
        )

    def sample_sequences(
        self,
        batch: int,
        length: int,
        burn_in: int = 0,
        rngs: Sequence[np.random.Generator] | None = None,
    ) -> Sequences:
        """Return unbroken sequences of T = burn_in + length steps, their first step by priority.

        The step drawn is the first that is learned; up to ``burn_in`` earlier ones of the same
        episode come before it, as far as the ring still holds them.
        """
        leaves = self._draw(batch, rngs)
        slots = leaves - self._leaf0
        columns = {name: self._flat[name] for name in ("follow", "back", "flags", "extra")}
        walk = walk_sequences(columns, slots, self._slot0, length, burn_in)
        rows, places = walk.slots + self._slot0[..., None], walk.slots + self._place0[..., None]
        last = walk.last_place + self._place0
        there = walk.there
        vectors = self._take("vector", places)
        vectors[~there] = 0
        return Sequences(
            observation=vectors,
            legal=self._legal(places),
            action=self._action(rows),
            reward=self._take("reward", rows) * there,
            terminated=walk.terminated,
            truncated=walk.truncated,
            there=there,
            learned=walk.learned,
            last_observation=self._take("vector", last),
            last_legal=self._legal(last),
            bootstraps=walk.bootstraps,
            weight=self._weights(leaves),
            slots=slots,
            columns={name: self._take(name, rows) for name in self.form.columns},
        )

    def _draw(self, batch: int, rngs: Sequence[np.random.Generator] | None) -> Ints:
        shares = np.empty((self.n_models, batch))
        for row, rng in zip(shares, rngs or self._rngs, strict=True):
            rng.random(out=row)
        shares += np.arange(batch)
        shares *= 1.0 / batch
        return self._tree.draw(shares)

    def _weights(self, leaves: Ints) -> NDArray[np.float32]:
        weight = self._tree.get(leaves) ** -self.beta
        weight /= weight.max(1, keepdims=True)
        return weight.astype(np.float32)

    def _take(self, name: str, rows: Ints) -> NDArray[Any]:
        taken: NDArray[Any] = self._flat[name].take(rows, 0)
        return taken

    def _action(self, rows: Ints) -> NDArray[Any]:
        action = self._take("action", rows)
        return action if self.form.n_continuous else np.asarray(action, np.int64)

    def _legal(self, places: Ints) -> NDArray[np.uint8]:
        bits = self._take("legal", places)
        return np.unpackbits(bits, axis=-1, count=self.form.n_actions)

    def set_errors(self, slots: Ints, errors: Floats) -> None:
        """Give slots [S, B] of a sample the priority ``(|error| + floor) ** alpha``."""
        priorities = (np.abs(errors.astype(np.float64)) + PRIORITY_FLOOR) ** self.alpha
        np.maximum(self._largest, priorities.max(1), out=self._largest)
        self._tree.set((slots + self._leaf0).reshape(-1), priorities.reshape(-1))

    def column(self, name: str, model: int) -> NDArray[Any]:
        """Return a model's whole column, uncopied: observations are "vector"."""
        values: NDArray[Any] = self._columns[name][model]
        return values

    def priorities(self) -> NDArray[np.float64]:
        """Return a copy of all priorities [S, capacity]; 0 where a row cannot be sampled."""
        leaves = np.arange(self.settings.capacity) + self._leaf0
        return self._tree.get(leaves)

    def state(self, *, vectors: bool = True) -> Arrays:
        """Return copies of all that the next draw depends on, generators included.

        ``vectors=False`` leaves out observations and masks, for those who can read them again.
        """
        state: Arrays = {"largest": self._largest.copy(), "ready": self._ready.copy()}
        for i, ring in enumerate(self.rings):
            for name, values in self._columns.items():
                if vectors or name not in VECTORS:
                    state[f"{i}.{name}"] = np.array(values[i][ring.used(name)])
            state |= {f"{i}.ring.{k}": v for k, v in ring.state().items()}
            state[f"{i}.priority"] = self._tree.units()[i, : ring.n_held]
            state[f"{i}.rng"] = _generator_bytes(self._rngs[i])
        return state

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take a `state`: what follows is bit for bit what would have followed."""
        self._largest[:], self._ready[:] = state["largest"], state["ready"]
        units = np.zeros((self.n_models, self.settings.capacity), np.int64)
        for i, ring in enumerate(self.rings):
            ring.restore(
                {k: state[f"{i}.ring.{k}"] for k in ("counters", "pending", "tails", "spare")}
            )
            for name, values in self._columns.items():
                if f"{i}.{name}" in state:
                    values[i][ring.used(name)] = state[f"{i}.{name}"]
            units[i, : ring.n_held] = state[f"{i}.priority"]
            _set_generator(self._rngs[i], state[f"{i}.rng"])
        self._tree.restore(units)


def _generator_bytes(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a generator's state as bytes of JSON: it has integers of 128 bits."""
    return np.frombuffer(json.dumps(rng.bit_generator.state).encode(), np.uint8).copy()


def _set_generator(rng: np.random.Generator, data: NDArray[Any]) -> None:
    rng.bit_generator.state = json.loads(bytes(data.tobytes()))
