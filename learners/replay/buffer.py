"""Prioritised replay: a ring of transitions whose observations can be read back from windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.replay.nstep import NEXT_OBSERVATION, OBSERVATION, Transitions
from learners.replay.rows import WindowRows
from learners.replay.sumtree import SumTree
from learners.settings import Shape

Ints = NDArray[np.int64]

PRIORITY_FLOOR = 1e-3
"""Added to each |TD error|, so that no transition starves; rewards lie in [-1, 1]."""

SMALL = ["action", "reward", "discount", "demonstration"]
SOURCES = ["window", "row", "next_window", "next_row", "next_column"]


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """B sampled transitions."""

    observation: NDArray[np.floating[Any]]
    """[B, D] in the ring's storage type."""
    legal: NDArray[np.uint8]
    next_observation: NDArray[np.floating[Any]]
    next_legal: NDArray[np.uint8]
    action: Ints
    reward: NDArray[np.float32]
    discount: NDArray[np.float32]
    demonstration: NDArray[np.bool_]
    weight: NDArray[np.float32]
    """Importance weights, the largest of the batch is 1."""
    slots: Ints


class PrioritisedReplay:
    """Proportional prioritised replay (Schaul et al. 2016), stratified, vectorised.

    Differs from the paper: importance weights are normalised by the batch's largest and beta stays
    where it is set. A new transition gets the largest priority any transition ever had.
    """

    def __init__(
        self,
        capacity: int,
        shape: Shape,
        alpha: float,
        beta: float,
        storage: str = "float16",
        kept: int = 0,
    ) -> None:
        """Make an empty ring; memory is touched only as it fills.

        The first ``kept`` transitions are never overwritten: a log begins with demonstrations, and
        what is learned from them is forgotten with them (Hester et al. 2018 keep them apart too).
        """
        self.capacity, self._alpha, self._beta = capacity, alpha, beta
        self._kept = min(kept, capacity - 1)
        width, n_actions = shape.size, shape.n_actions
        self._observation = np.zeros((capacity, width), dtype=storage)
        self._next_observation = np.zeros((capacity, width), dtype=storage)
        self._legal = np.ones((capacity, n_actions), np.uint8)
        self._next_legal = np.ones((capacity, n_actions), np.uint8)
        self._small: dict[str, NDArray[Any]] = {
            "action": np.zeros(capacity, np.int32),
            "reward": np.zeros(capacity, np.float32),
            "discount": np.zeros(capacity, np.float32),
            "demonstration": np.zeros(capacity, np.bool_),
        }
        self._sources = {name: np.full(capacity, -1, np.int32) for name in SOURCES}
        self._tree = SumTree(capacity)
        self._largest = 1.0
        self.n_added = 0

    def __len__(self) -> int:
        """Return how many transitions can be sampled."""
        return min(self.n_added, self.capacity)

    def add(self, transitions: Transitions) -> None:
        """Append transitions; the oldest give way."""
        n = len(transitions)
        order = self.n_added + np.arange(n)
        ring = self.capacity - self._kept
        last = (order < self._kept) | (order >= self.n_added + n - ring)  # no slot is written twice
        order = order[last]
        slots = np.where(order < self._kept, order, self._kept + (order - self._kept) % ring)
        self._observation[slots] = transitions.observation[last]
        self._next_observation[slots] = transitions.next_observation[last]
        self._legal[slots] = transitions.legal[last]
        self._next_legal[slots] = transitions.next_legal[last]
        for name in SMALL:
            self._small[name][slots] = getattr(transitions, name)[last]
        for name in SOURCES:
            self._sources[name][slots] = getattr(transitions.sources, name)[last]
        self._tree.set(slots, np.full(slots.size, self._largest))
        self.n_added += n

    def sample(self, batch: int, rng: np.random.Generator) -> Batch:
        """Return transitions drawn in proportion to priority, one from each of B equal strata."""
        total = self._tree.total
        masses = (np.arange(batch) + rng.random(batch)) * (total / batch)
        slots = self._tree.find(masses)
        weight = self._tree.get(slots) ** -self._beta
        return Batch(
            observation=self._observation[slots],
            legal=self._legal[slots],
            next_observation=self._next_observation[slots],
            next_legal=self._next_legal[slots],
            action=self._small["action"][slots].astype(np.int64),
            reward=self._small["reward"][slots],
            discount=self._small["discount"][slots],
            demonstration=self._small["demonstration"][slots],
            weight=(weight / weight.max()).astype(np.float32),
            slots=slots,
        )

    def set_errors(self, slots: Ints, errors: NDArray[np.float32]) -> None:
        """Give slots [B] the priority ``(|error| + floor) ** alpha``."""
        priorities = (np.abs(errors.astype(np.float64)) + PRIORITY_FLOOR) ** self._alpha
        self._tree.set(slots, priorities)
        self._largest = max(self._largest, float(priorities.max()))

    def observations(self, n: int) -> NDArray[np.float32]:
        """Return the oldest ``n`` observations held, in slot order, as float32."""
        return self._observation[: min(n, len(self))].astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all but the vectors: what `restore` and the windows make the ring from."""
        n = len(self)
        columns = {**self._small, **self._sources}
        state = {f"replay.{name}": values[:n].copy() for name, values in columns.items()}
        state["replay.priority"] = self._tree.leaves()[:n]
        state["replay.counters"] = np.asarray([self.n_added, self._largest], np.float64)
        return state

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Take a `state`; then `fill` every window in `windows`."""
        counters = state["replay.counters"]
        self.n_added, self._largest = int(counters[0]), float(counters[1])
        n = len(self)
        for columns in (self._small, self._sources):
            for name, values in columns.items():
                values[:n] = state[f"replay.{name}"]
        self._tree.set(np.arange(n), state["replay.priority"])

    def windows(self) -> set[int]:
        """Return the numbers of the windows that the ring's vectors come from."""
        n = len(self)
        held = {int(w) for w in np.unique(self._sources["window"][:n])}
        return held | {int(w) for w in np.unique(self._sources["next_window"][:n]) if w >= 0}

    def fill(self, window: int, rows: WindowRows) -> None:
        """Put the vectors of one window into the slots that came from it."""
        n = len(self)
        slots = np.flatnonzero(self._sources["window"][:n] == window)
        places = self._sources["row"][slots]
        self._observation[slots] = rows.observation[places]
        self._legal[slots] = rows.legal[places]
        for slots, following, legal in self._successors(window, rows):
            places = self._sources["next_row"][slots]
            self._next_observation[slots] = following[places]
            self._next_legal[slots] = legal[places]

    def _successors(
        self, window: int, rows: WindowRows
    ) -> Iterator[tuple[Ints, NDArray[np.float32], NDArray[np.uint8]]]:
        n = len(self)
        here = self._sources["next_window"][:n] == window
        column = self._sources["next_column"][:n]
        yield np.flatnonzero(here & (column == OBSERVATION)), rows.observation, rows.legal
        in_next = np.flatnonzero(here & (column == NEXT_OBSERVATION))
        yield in_next, rows.next_observation, rows.next_legal
