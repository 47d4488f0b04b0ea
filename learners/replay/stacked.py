"""S prioritised rings side by side, filled one by one and drawn from all at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.replay.draws import PRIORITY_FLOOR, Draws
from learners.replay.form import Batch, RowForm, Sequences, Steps
from learners.replay.ring import VECTORS, Arrays, Ring, RingSettings, column_shapes
from learners.replay.sequences import walk_sequences
from learners.replay.store import allocate, allocate_packed

__all__ = ["PRIORITY_FLOOR", "StackedReplay"]

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]


@dataclasses.dataclass(slots=True)
class _Ahead:
    """Batches that were drawn together; every array leads with K."""

    rows: Ints
    """[K, S, B]."""
    weight: NDArray[np.float32]
    next: int = 0
    rest: list[tuple[NDArray[Any], ...]] = dataclasses.field(default_factory=list)
    """All of the batches but the vectors, as `StackedReplay._rest` returns it."""


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
        lookahead: int = 16,
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
            lookahead: batches that are drawn in one sweep while nothing is added. Errors count from
                the next sweep on: with 16, a priority may be 16 updates old; 1 draws each batch by
                the newest ones.
            folder: columns are memory-mapped files there; None: they lie in memory.
        """
        settings = RingSettings(capacity, min(kept, capacity - 1), n_step, discount)
        self.form, self.settings, self.n_models = form, settings, len(seeds)
        shapes = column_shapes(form, settings)
        self._columns: Arrays = allocate(shapes["apart"], self.n_models, folder)
        self._flat = {
            k: v.reshape(v.shape[0] * v.shape[1], *v.shape[2:]) for k, v in self._columns.items()
        }
        self._vectors = self._flat["vector"]
        records, packed = allocate_packed(shapes["packed"], self.n_models, folder)
        self._record, self._records = records.dtype, records.view(f"V{records.dtype.itemsize}")
        self._columns |= packed
        self.rings = [
            Ring(form, settings, {k: v[i] for k, v in self._columns.items()})
            for i in range(self.n_models)
        ]
        self._draws = Draws(capacity, seeds, alpha, beta)
        self._row0 = self._draws.first
        self._place0 = np.arange(self.n_models)[:, None] * settings.n_places
        self._lookahead, self._ahead = lookahead, _Ahead(*_NOTHING)
        self._n_ahead = 1

    @property
    def sizes(self) -> Ints:
        """Transitions of each model [S] that can be sampled."""
        return self._draws.n_ready.copy()

    def add(self, model: int, steps: Steps) -> int:
        """Append steps of one model; returns how many transitions can be sampled since.

        Steps of several ticks are best added together: a call costs about as much as a thousand
        rows. A step becomes a transition when what its return needs has come.
        """
        n = 0
        for slots, ready in self.rings[model].add(steps):
            self._draws.changed(model, slots, ready)
            n += len(ready)
        self._ahead, self._n_ahead = _Ahead(*_NOTHING), 1
        return n

    def sample(self, batch: int, rngs: Sequence[np.random.Generator] | None = None) -> Batch:
        """Return transitions drawn in proportion to priority, one from each of B equal strata.

        Every model must have one at least (see `sizes`).
        """
        ahead = self._ahead
        k = ahead.next
        if k == len(ahead.rows) or ahead.rows.shape[2] != batch:
            ahead, k = self._draw_ahead(batch, rngs), 0
            self._ahead = ahead
        if not ahead.rest:
            ahead.rest = list(zip(*self._rest(ahead.rows, ahead.weight), strict=True))
        ahead.next = k + 1
        return self._batch(*ahead.rest[k])

    def _draw_ahead(self, batch: int, rngs: Sequence[np.random.Generator] | None) -> _Ahead:
        """Draw one batch after rows were added, then two, four, ... at once."""
        rows, weight = self._draws.draw(self._n_ahead, batch, rngs)
        self._n_ahead = min(2 * self._n_ahead, self._lookahead)
        return _Ahead(rows, weight)

    def read(self, slots: Ints) -> Batch:
        """Return the transitions of slots [S, B], those of `ready_slots`; all weights are 1."""
        ones = np.ones(slots.shape, np.float32)
        rest = self._rest((slots + self._row0)[None], ones[None])
        return self._batch(*(values[0] for values in rest))

    def ready_slots(self, model: int) -> Ints:
        """Return the slots of one model that can be sampled, rising."""
        return np.flatnonzero(self.priorities()[model])

    def _rest(self, rows: Ints, weight: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Return what `_batch` takes, each led by K, of rows [K, S, B]."""
        packed = self._unpack(rows)
        places = np.empty((len(rows), 2, *rows.shape[1:]), np.int64)
        slots, places[:, 0], places[:, 1] = rows, rows, packed["after"]
        if self.n_models > 1:
            slots = rows - self._row0
            places[:, 0] = slots
            places += self._place0
        columns = (packed[name] for name in self.form.columns)
        return (
            places, self._masks(places), packed["action"], packed["returns"],
            packed["discount"], weight, slots, *columns,
        )  # fmt: skip

    def _unpack(self, rows: Ints) -> dict[str, NDArray[Any]]:
        """Return the packed columns of rows; choices become int64."""
        records = self._records.take(rows, mode="clip").view(self._record)
        packed = {name: records[name] for name in records.dtype.names or ()}
        if not self.form.n_continuous:
            packed["action"] = packed["action"].astype(np.int64)
        return packed

    def _batch(
        self,
        places: Ints,
        legal: NDArray[np.uint8],
        action: NDArray[Any],
        reward: NDArray[np.float32],
        discount: NDArray[np.float32],
        weight: NDArray[np.float32],
        slots: Ints,
        *columns: NDArray[Any],
    ) -> Batch:
        """Return a batch; places [2, S, B] and masks [2, S, B, A] are of s and of s'."""
        vectors = self._vectors.take(places, 0, None, "clip")
        return Batch(
            vectors[0], legal[0], vectors[1], legal[1], action, reward, discount, weight, slots,
            dict(zip(self.form.columns, columns, strict=True)),
        )  # fmt: skip

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
        drawn, weight = (values[0] for values in self._draws.draw(1, batch, rngs))
        slots = drawn - self._row0
        columns = {name: self._flat[name] for name in ("follow", "back", "flags", "extra")}
        walk = walk_sequences(columns, slots, self._row0, length, burn_in)
        rows, places = walk.slots + self._row0[..., None], walk.slots + self._place0[..., None]
        last = walk.last_place + self._place0
        there = walk.there
        vectors = self._take("vector", places)
        vectors[~there] = 0
        packed = self._unpack(rows)
        return Sequences(
            observation=vectors,
            legal=self._masks(places),
            action=packed["action"],
            reward=self._take("reward", rows) * there,
            terminated=walk.terminated,
            truncated=walk.truncated,
            there=there,
            learned=walk.learned,
            last_observation=self._take("vector", last),
            last_legal=self._masks(last),
            bootstraps=walk.bootstraps,
            weight=weight,
            slots=slots,
            columns={name: packed[name] for name in self.form.columns},
        )

    def _masks(self, places: Ints) -> NDArray[np.uint8]:
        """Return the masks of places, without a look-up where they have no width."""
        if not self.form.n_masks:
            return np.zeros((*places.shape, 0), np.uint8)
        return self._take("legal", places)

    def _take(self, name: str, rows: Ints) -> NDArray[Any]:
        taken: NDArray[Any] = self._flat[name].take(rows, 0, mode="clip")
        return taken

    def set_errors(self, slots: Ints, errors: Floats) -> None:
        """Give slots [S, B] of a sample the priority ``(|error| + floor) ** alpha``."""
        self._draws.tell(slots + self._row0 if self.n_models > 1 else slots, errors)

    def column(self, name: str, model: int) -> NDArray[Any]:
        """Return a model's whole column, uncopied: observations are "vector"."""
        values: NDArray[Any] = self._columns[name][model]
        return values

    def priorities(self) -> NDArray[np.float64]:
        """Return a copy of all priorities [S, capacity]; 0 where a row cannot be sampled."""
        self._draws.settle()
        rows = np.arange(self.settings.capacity) + self._row0
        return self._draws.tree.get(rows)

    def state(self, *, vectors: bool = True) -> Arrays:
        """Return copies of all that the next draw depends on, generators included.

        ``vectors=False`` leaves out observations and masks, for those who can read them again.
        """
        ahead = self._ahead
        state = {
            **self._draws.state(),
            "ahead": np.asarray([self._n_ahead], np.int64),
            "ahead.rows": ahead.rows[ahead.next :].copy(),
            "ahead.weight": ahead.weight[ahead.next :].copy(),
        }
        for i, ring in enumerate(self.rings):
            for name, values in self._columns.items():
                if vectors or name not in VECTORS:
                    state[f"{i}.{name}"] = np.array(values[i][ring.used(name)])
            state |= {f"{i}.ring.{k}": v for k, v in ring.state().items()}
            state[f"{i}.priority"] = state[f"{i}.priority"][: ring.n_held]
        return state

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take a `state`: what follows is bit for bit what would have followed."""
        for i, ring in enumerate(self.rings):
            ring.restore(
                {k: state[f"{i}.ring.{k}"] for k in ("counters", "pending", "tails", "spare")}
            )
            for name, values in self._columns.items():
                if f"{i}.{name}" in state:
                    values[i][ring.used(name)] = state[f"{i}.{name}"]
        self._draws.restore(state)
        self._n_ahead = int(state["ahead"][0])
        self._ahead = _Ahead(state["ahead.rows"].copy(), state["ahead.weight"].copy())


_NOTHING = (np.zeros((0, 0, 0), np.int64), np.zeros((0, 0, 0), np.float32))
