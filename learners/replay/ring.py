"""One model's ring of rows: how steps are written, chained and made into n-step transitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.replay.form import RowForm, Steps
from learners.replay.nstep import CLOSED, TERMINATED, TRUNCATED, UNSETTLED, Links, n_step_returns
from learners.replay.sumtree import FAN

Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]
Columns = dict[str, tuple[tuple[int, ...], str]]

VECTORS = ("vector", "legal")
PLACES = (*VECTORS, "source")
"""Columns of places; all others are columns of slots."""


@dataclasses.dataclass(frozen=True, slots=True)
class RingSettings:
    """What decides which rows a ring holds and what it makes of them."""

    capacity: int
    kept: int = 0
    """The first rows, never overwritten: a log begins with demonstrations, and what is learned from
    them is forgotten with them (Hester et al. 2018 keep them apart too)."""
    n_step: int = 1
    discount: float = 0.99

    @property
    def n_slots(self) -> int:
        """Slots of a column: the capacity, filled up to whole blocks of the sum tree."""
        return self.capacity + -self.capacity % FAN

    @property
    def n_places(self) -> int:
        """Places of vectors: one a slot, and one for what follows a row and is no row itself.

        Memory is touched only where such a vector is kept: at an episode's truncation, at the end
        of what was added at once, or where a game says something else than what comes next.
        """
        return 2 * self.capacity + self.kept


def column_shapes(form: RowForm, settings: RingSettings) -> dict[str, Columns]:
    """Return shape and dtype of each column of one ring, and "packed": those of a batch's rows."""
    c, p = settings.n_slots, settings.n_places
    action = ((c, form.n_continuous), "float32") if form.n_continuous else ((c,), "int32")
    shapes: Columns = {
        "vector": ((p, form.n_features), form.storage),
        "legal": ((p, form.n_masks), "uint8"),
        "reward": ((c,), "float32"),
        "flags": ((c,), "uint8"),
        "follow": ((c,), "int32"),
        "back": ((c,), "int32"),
        "extra": ((c,), "int32"),
    }
    if form.sources:
        shapes["source"] = ((p,), "int64")
    packed: Columns = {
        "after": ((c,), "int32"),
        "returns": ((c,), "float32"),
        "discount": ((c,), "float32"),
        "action": action,
        **{name: ((c, *shape), dtype) for name, (shape, dtype) in form.columns.items()},
    }
    return {"apart": shapes, "packed": packed}


class Ring:
    """Rows in the order they came, the oldest giving way; `after` says where s' stands.

    An observation is stored once: the row that follows is where the next observation is read from.
    Whatever a row points to is newer than the row, so it is never gone before it; rows that are
    kept for ever get copies when the ring wraps for the first time.
    """

    def __init__(self, form: RowForm, settings: RingSettings, arrays: Arrays) -> None:
        """Take the columns (see `column_shapes`), all zeros."""
        self._form, self._settings, self._a = form, settings, arrays
        self.n_rows = 0
        """Rows ever written; a row's number of order is kept in 64 bits, its slot follows."""
        self.pending: Ints = np.zeros(0, np.int64)
        """Orders of rows that wait for what follows."""
        self._tails: Ints = np.full((3, 0), -1, np.int64)
        """Of each actor's last row: order, step, episode."""
        self._spare: Ints = np.zeros(0, np.int64)
        self.n_extras = 0
        """Places of extra vectors ever used."""
        self.dropped = {"broken": 0, "censored": 0, "silent": 0}

    @property
    def n_held(self) -> int:
        """Slots that hold a row."""
        return min(self.n_rows, self._settings.capacity)

    def slots_of(self, orders: Ints) -> Ints:
        """Return the slots that rows of these orders were written to."""
        kept = self._settings.kept
        ring = self._settings.capacity - kept
        if not kept:
            return orders % ring
        return np.where(orders < kept, orders, kept + (orders - kept) % ring)

    def add(self, steps: Steps) -> Iterator[tuple[Ints, Ints]]:
        """Write steps; yields the slots written and those that can be sampled now, part by part."""
        first, n, settings = 0, len(steps), self._settings
        ring = settings.capacity - settings.kept
        while first < n:
            end = min(n, first + ring)
            if self.n_rows < settings.capacity:  # the first wrap begins a part
                end = min(end, first + settings.capacity - self.n_rows)
            elif self.n_rows == settings.capacity and settings.kept:
                self._detach()
            whole = first == 0 and end == n
            yield self._add_part(steps if whole else _part(steps, first, end))
            first = end

    def _add_part(self, steps: Steps) -> tuple[Ints, Ints]:
        orders = self.n_rows + np.arange(len(steps))
        slots = self.slots_of(orders)
        self.n_rows += len(steps)
        if self.n_rows > self._settings.capacity:
            self._evict(slots)
        self._write(steps, slots)
        self._chain(steps, orders, slots)
        self._keep_next(steps, slots)
        settled = slice(None) if steps.settled is None else steps.settled
        self.dropped["censored"] += len(steps) - len(orders[settled])
        ready, self.pending, n_broken = n_step_returns(
            np.concatenate([self.pending, orders[settled]]), self.slots_of, self._links(),
            self._settings.n_step, self._settings.discount,
        )  # fmt: skip
        self.dropped["broken"] += n_broken
        return slots, ready

    def _links(self) -> Links:
        a = self._a
        return Links(
            a["reward"], a["flags"], a["follow"], a["extra"], a["after"], a["returns"],
            a["discount"],
        )  # fmt: skip

    def alive(self, orders: Ints) -> NDArray[np.bool_]:
        """Return which rows of these orders are still held."""
        oldest = self.n_rows - (self._settings.capacity - self._settings.kept)
        return ((orders >= 0) & (orders < self._settings.kept)) | (orders >= max(oldest, 0))

    def _evict(self, slots: Ints) -> None:
        """Free the extra vectors of rows that are about to be overwritten."""
        extras = self._a["extra"][slots]
        self._spare = np.concatenate([self._spare, extras[extras >= 0].astype(np.int64)])
        alive = self.alive(self.pending)
        if not alive.all():
            self.dropped["silent"] += int((~alive).sum())
            self.pending = self.pending[alive]

    def _detach(self) -> None:
        """Copy what kept rows point to outside of the kept ones, before it is overwritten."""
        kept, a = self._settings.kept, self._a
        ends = self.pending[self.pending < kept]  # what waits across the edge waits no more
        self.dropped["silent"] += len(ends)
        self.pending = self.pending[self.pending >= kept]
        after, own = a["after"][:kept], a["extra"][:kept]
        after[self.slots_of(ends)] = 0  # never read, so it needs no copy
        over = np.flatnonzero((after >= kept) & ~np.isin(after, own))
        a["after"][over] = self._copies(after[over])
        outside = np.flatnonzero(a["follow"][:kept] >= kept)
        edge = outside[own[outside] < 0]
        a["extra"][edge] = self._copies(a["follow"][edge])
        a["follow"][outside] = -1
        a["flags"][outside] |= CLOSED

    def _copies(self, places: NDArray[np.integer[Any]]) -> Ints:
        copies = self._allot(len(places))
        for name in (name for name in PLACES if name in self._a):
            self._a[name][copies] = self._a[name][places]
        return copies

    def _write(self, steps: Steps, slots: Ints) -> None:
        a = self._a
        a["vector"][slots] = steps.observation
        if self._form.n_masks:
            a["legal"][slots] = _masks(steps.legal, len(steps), self._form.n_masks)
        if steps.source is not None:
            a["source"][slots] = steps.source
        a["action"][slots] = steps.action
        a["reward"][slots] = steps.reward
        flags = steps.terminated * np.uint8(TERMINATED) + steps.truncated * np.uint8(TRUNCATED)
        if steps.settled is not None:
            flags = flags + ~steps.settled * np.uint8(UNSETTLED)
        a["flags"][slots] = flags
        for name in ("follow", "back", "extra"):
            a[name][slots] = -1
        for name in self._form.columns:
            a[name][slots] = steps.columns[name]

    def _chain(self, steps: Steps, orders: Ints, slots: Ints) -> None:
        """Join every step to the one before it of the same actor."""
        a, n = self._a, len(steps)
        episode = np.zeros(n, np.int64) if steps.episode is None else steps.episode
        self._grow_tails(int(steps.actor.max()) + 1 if n else 0)
        by_actor = np.argsort(steps.actor, kind="stable")
        actor = steps.actor[by_actor]
        begins = np.ones(n, np.bool_)
        begins[1:] = actor[1:] != actor[:-1]
        before = np.empty((3, n), np.int64)
        now = np.stack([orders, steps.step, episode])[:, by_actor]
        before[:, 1:] = now[:, :-1]
        before[:, begins] = self._tails[:, actor[begins]]
        ends = np.roll(begins, -1)
        self._tails[:, actor[ends]] = now[:, ends]
        known = self.alive(before[0])
        behind, here = self.slots_of(before[0][known]), slots[by_actor][known]
        follows = (now[1] == before[1] + 1) & (now[2] == before[2])
        goes_on = (a["flags"][behind] & (TERMINATED | TRUNCATED | CLOSED | UNSETTLED)) == 0
        joined = goes_on & follows[known]
        a["follow"][behind[joined]] = here[joined]
        a["back"][here[joined]] = behind[joined]
        a["flags"][behind[goes_on & ~joined]] |= CLOSED

    def _keep_next(self, steps: Steps, slots: Ints) -> None:
        """Keep next observations that are not those of the rows that follow."""
        if steps.next_observation is None:
            return
        a, wanted = self._a, ~steps.terminated
        if steps.has_next is not None:
            wanted = wanted & steps.has_next
        rows = np.flatnonzero(wanted)
        vectors = steps.next_observation[rows].astype(a["vector"].dtype)
        n_masks = self._form.n_masks
        legal = None if steps.next_legal is None else steps.next_legal[rows]
        masks = _masks(legal, len(rows), n_masks)
        follow = a["follow"][slots[rows]]
        same = (a["vector"][follow] == vectors).all(1) & (follow >= 0)
        if n_masks and steps.next_legal is not None:
            same &= (a["legal"][follow] == masks).all(1)
        elif n_masks:  # the mask was not said: the next row's own holds
            masks[follow >= 0] = a["legal"][follow[follow >= 0]]
        places = self._allot(int((~same).sum()))
        a["vector"][places] = vectors[~same]
        if n_masks:
            a["legal"][places] = masks[~same]
        if steps.source is not None:
            a["source"][places] = ~steps.source[rows[~same]]
        a["extra"][slots[rows[~same]]] = places

    def _allot(self, n: int) -> Ints:
        """Return n free places for extra vectors, those used last first: memory stays warm."""
        again = min(n, len(self._spare))
        spare = self._spare[len(self._spare) - again :]
        self._spare = self._spare[: len(self._spare) - again]
        first = self._settings.capacity + self.n_extras
        self.n_extras += n - again
        return np.concatenate([spare, first + np.arange(n - again)])

    def _grow_tails(self, n: int) -> None:
        n_now = self._tails.shape[1]
        if n > n_now:
            more = np.full((3, max(n, 2 * n_now) - n_now), -1, np.int64)
            self._tails = np.concatenate([self._tails, more], axis=1)

    def is_open(self, actors: Ints) -> NDArray[np.bool_]:
        """Return which actors' last rows may be followed."""
        orders = self._tails[0, actors]
        flags = self._a["flags"][self.slots_of(np.maximum(orders, 0))]
        ended = (flags & (TERMINATED | TRUNCATED | CLOSED | UNSETTLED)) != 0
        still: NDArray[np.bool_] = self.alive(orders) & ~ended
        return still

    def forget(self, actors: Ints) -> None:
        """Let go of actors: their numbers are free, and what waited for them is dropped."""
        waiting = np.zeros(0, np.int64)
        at = self.slots_of(self._tails[0, actors][self.alive(self._tails[0, actors])])
        for _ in range(self._settings.n_step):
            waiting = np.concatenate([waiting, at])
            behind = self._a["back"][at].astype(np.int64)
            at = behind[(behind >= 0) & (self._a["follow"][behind] == at)]
        gone = np.isin(self.slots_of(self.pending), waiting)
        self.dropped["silent"] += int(gone.sum())
        self.pending = self.pending[~gone]
        self._tails[:, actors] = -1

    def used_places(self) -> Ints:
        """Return the places that hold a vector, rising."""
        first = self._settings.capacity
        extras = np.setdiff1d(np.arange(first, first + self.n_extras), self._spare)
        return np.concatenate([np.arange(self.n_held), extras])

    def used(self, name: str) -> slice | Ints:
        """Return where a column holds something."""
        return self.used_places() if name in PLACES and self.n_extras else slice(0, self.n_held)

    def put_vectors(
        self, places: Ints, vectors: NDArray[np.floating[Any]], legal: NDArray[Any]
    ) -> None:
        """Write vectors [N, D] and masks [N, A] that were read again."""
        self._a["vector"][places] = vectors
        if self._form.n_masks:
            self._a["legal"][places] = _masks(legal, len(places), self._form.n_masks)

    def state(self) -> Arrays:
        """Return what the columns do not tell."""
        dropped = [self.dropped[name] for name in sorted(self.dropped)]
        return {
            "counters": np.asarray([self.n_rows, self.n_extras, *dropped], np.int64),
            "pending": self.pending.copy(),
            "tails": self._tails.copy(),
            "spare": self._spare.copy(),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take a `state`."""
        counters = [int(value) for value in state["counters"]]
        self.n_rows, self.n_extras = counters[:2]
        self.dropped = dict(zip(sorted(self.dropped), counters[2:], strict=True))
        self.pending, self._tails = state["pending"].copy(), state["tails"].copy()
        self._spare = state["spare"].copy()


def _masks(legal: NDArray[Any] | None, n: int, n_masks: int) -> NDArray[np.uint8]:
    """Return masks [n, A] that may be written to; all ones where none is given."""
    if legal is None:
        return np.ones((n, n_masks), np.uint8)
    return legal.astype(np.uint8)


def _part(steps: Steps, first: int, end: int) -> Steps:
    def some(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: column[first:end] for name, column in value.items()}
        return None if value is None else value[first:end]

    return Steps(*(some(getattr(steps, f.name)) for f in dataclasses.fields(steps)))
