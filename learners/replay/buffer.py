"""The replay of one model that is filled from windows, whose vectors are read from them again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.replay.form import Batch, RowForm, Steps, Storage
from learners.replay.rows import Names, WindowRows
from learners.replay.stacked import StackedReplay
from learners.settings import Shape

Ints = NDArray[np.int64]

MAX_OPEN_ACTORS = 20_000
"""Actors that fell silent in mid-episode are let go, the longest silent first, and counted."""

ROW_BITS = 32
"""A source is the window's number above so many bits of the row's."""


class PrioritisedReplay:
    """A `StackedReplay` of one ring; a pure function of the windows' rows, in their order."""

    def __init__(
        self,
        shape: Shape,
        capacity: int,
        *,
        n_step: int,
        discount: float,
        alpha: float,
        beta: float,
        storage: Storage = "float16",
        kept: int = 0,
    ) -> None:
        """Make an empty ring; see `StackedReplay`."""
        form = RowForm(
            shape.size, shape.n_actions, storage=storage, sources=True,
            columns={"demonstration": ((), "bool")},
        )  # fmt: skip
        self.stack = StackedReplay(
            form, capacity, [0], n_step=n_step, discount=discount, alpha=alpha, beta=beta, kept=kept
        )
        self._ring = self.stack.rings[0]
        self._actors: dict[str, int] = {}
        """Numbers of actors whose last row may be followed, the longest silent first."""
        self._free: list[int] = []
        self._n_revised = 0

    def __len__(self) -> int:
        """Return how many transitions can be sampled."""
        return int(self.stack.sizes[0])

    @property
    def dropped(self) -> dict[str, int]:
        """Steps that made no transition, by reason."""
        return {**self._ring.dropped, "revised": self._n_revised}

    def fold(self, rows: WindowRows, window: int) -> int:
        """Take the rows of the next window, known by its number; returns transitions completed."""
        first_said = np.flatnonzero(rows.revision == 0)
        self._n_revised += len(rows) - len(first_said)
        source = (window << ROW_BITS) + np.arange(len(rows))
        if len(first_said) < len(rows):
            rows, source = rows.take(first_said), source[first_said]
        if not len(rows):
            return 0
        present, last = _last_rows(rows.actor)
        numbers = self._numbers(rows.actor.names, present)
        n = self.stack.add(0, _steps(rows, numbers, source))
        self._settle(rows.actor.names, present[np.argsort(last)], numbers)
        return n

    def _numbers(self, names: Sequence[str], present: Ints) -> Ints:
        """Return the number of each name, and -1 of those that are not present."""
        numbers = np.full(len(names), -1, np.int64)
        for code in present.tolist():
            name = names[code]
            if name not in self._actors:
                free = self._free.pop() if self._free else len(self._actors)
                self._actors[name] = free
            numbers[code] = self._actors[name]
        return numbers

    def _settle(self, names: Sequence[str], present: Ints, numbers: Ints) -> None:
        """Keep those that may go on, in the order of their last rows, and not too many."""
        still = self._ring.is_open(numbers[present])
        for code, is_open in zip(present.tolist(), still.tolist(), strict=True):
            number = self._actors.pop(names[code])
            if is_open:
                self._actors[names[code]] = number
            else:
                self._free.append(number)
        silent = list(self._actors)[: max(0, len(self._actors) - MAX_OPEN_ACTORS)]
        gone = [self._actors.pop(name) for name in silent]
        if gone:
            self._ring.forget(np.asarray(gone))
            self._free += gone

    def sample(self, batch: int, rng: np.random.Generator) -> Batch:
        """Return B transitions, without the axis S."""
        return self.stack.sample(batch, [rng]).of(0)

    def set_errors(self, slots: Ints, errors: NDArray[np.floating[Any]]) -> None:
        """Give slots [B] of a sample the priority ``(|error| + floor) ** alpha``."""
        self.stack.set_errors(slots[None], errors[None])

    def observations(self, n: int) -> NDArray[np.float32]:
        """Return ``n`` observations held, in slot order, as float32."""
        return self.stack.column("vector", 0)[: min(n, self._ring.n_held)].astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all but the vectors: what `restore` and the windows make the ring from."""
        arrays = self.stack.state(vectors=False)
        state = {f"replay.{name}": values for name, values in arrays.items()}
        names = "\0".join(self._actors).encode()
        state["replay.actors"] = np.frombuffer(names, np.uint8).copy()
        state["replay.actor_numbers"] = np.asarray(list(self._actors.values()), np.int64)
        state["replay.free_numbers"] = np.asarray(self._free, np.int64)
        state["replay.revised"] = np.asarray([self._n_revised], np.int64)
        return state

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take a `state`; then `fill` every window in `windows`."""
        self.stack.restore({name.removeprefix("replay."): v for name, v in state.items()})
        numbers = state["replay.actor_numbers"].tolist()
        names = bytes(state["replay.actors"].tobytes()).decode().split("\0") if numbers else []
        self._actors = dict(zip(names, numbers, strict=True))
        self._free = state["replay.free_numbers"].tolist()
        self._n_revised = int(state["replay.revised"][0])

    def windows(self) -> set[int]:
        """Return the numbers of the windows that the ring's vectors come from."""
        _, source = self._sources()
        return set(np.unique(np.where(source < 0, ~source, source) >> ROW_BITS).tolist())

    def fill(self, window: int, rows: WindowRows) -> None:
        """Put the vectors of one window into the places that came from it."""
        places, source = self._sources()
        following = source < 0
        number = np.where(following, ~source, source)
        here, row = (number >> ROW_BITS) == window, number & ((1 << ROW_BITS) - 1)
        own, later = here & ~following, here & following
        self._ring.put_vectors(places[own], rows.observation[row[own]], rows.legal[row[own]])
        self._ring.put_vectors(
            places[later], rows.next_observation[row[later]], rows.next_legal[row[later]]
        )

    def _sources(self) -> tuple[Ints, Ints]:
        places = self._ring.used_places()
        return places, self.stack.column("source", 0)[places]


def _last_rows(actor: Names) -> tuple[Ints, Ints]:
    """Return the codes that are there, rising, and the last row of each."""
    last = np.full(len(actor.names), -1, np.int64)
    last[actor.codes] = np.arange(len(actor))
    present = np.flatnonzero(last >= 0)
    return present, last[present]


def _episode_numbers(episode: Names) -> Ints:
    """Return 63-bit numbers of the episodes' names: the same in whichever window."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in episode.names)
    numbers = [int.from_bytes(digest, "little") >> 1 for digest in digests]
    return np.asarray(numbers, np.int64)[episode.codes]


def _steps(rows: WindowRows, numbers: Ints, source: Ints) -> Steps:
    return Steps(
        observation=rows.observation,
        action=rows.action,
        reward=rows.reward,
        terminated=rows.terminated,
        truncated=rows.truncated,
        actor=numbers[rows.actor.codes],
        step=rows.step,
        episode=_episode_numbers(rows.episode),
        legal=rows.legal,
        next_observation=rows.next_observation,
        next_legal=rows.next_legal,
        has_next=rows.has_next,
        settled=rows.settled,
        source=source,
        columns={"demonstration": rows.demonstration},
    )
