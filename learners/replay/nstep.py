"""N-step transitions from experience rows, chained by actor, episode and step across windows."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from learners.replay.rows import WindowRows

Ints = NDArray[np.int64]

MAX_PENDING_ACTORS = 20_000
"""Actors that fell silent in mid-episode are let go, the longest silent first, and counted."""

NOTHING, OBSERVATION, NEXT_OBSERVATION = 0, 1, 2
"""Where a transition's next observation stands: nowhere, or in which column of its row."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sources:
    """Where each of N transitions came from: enough to find its vectors in the archive again."""

    window: Ints
    row: Ints
    next_window: Ints
    """-1 where nothing follows."""
    next_row: Ints
    next_column: Ints
    """One of `NOTHING`, `OBSERVATION`, `NEXT_OBSERVATION`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Transitions:
    """N transitions ``(s, a, R, gamma^m, s')``; D features, A actions."""

    observation: NDArray[np.float32]
    legal: NDArray[np.uint8]
    next_observation: NDArray[np.float32]
    next_legal: NDArray[np.uint8]
    action: Ints
    reward: NDArray[np.float64]
    """Sum of ``gamma^k r_k`` over the m <= n steps taken, unscaled."""
    discount: NDArray[np.float64]
    """``gamma^m``; 0 where the episode terminated."""
    demonstration: NDArray[np.bool_]
    sources: Sources

    def __len__(self) -> int:
        """Return the number of transitions."""
        return len(self.action)


@dataclasses.dataclass(slots=True)
class Chain:
    """Rows of one actor's episode, step by step without a gap, that wait for what follows."""

    episode: str
    rows: list[int]
    """Places in the current frame."""
    last_step: int


class NStepAssembler:
    """Turns rows into transitions; a pure function of the rows' order.

    A step's successor is its own next observation where the outcome said one, else the observation
    of the actor's next step. Terminated bootstraps nothing; truncated bootstraps the next
    observation. Where a chain breaks (a step is missing, censored, or a new episode begins) the
    steps before the break become shorter returns that bootstrap at the last state known; a step
    after which nothing is known is dropped and counted.
    """

    def __init__(self, n_step: int, discount: float) -> None:
        """Begin with no chains."""
        self._n = n_step
        self._powers = [discount**k for k in range(n_step + 1)]
        self._chains: dict[str, Chain] = {}
        self._carried: WindowRows | None = None
        self._carried_places: Ints = np.zeros((0, 2), np.int64)
        self._out: list[tuple[int, int, int, float, float]] = []
        self.dropped = {"broken": 0, "censored": 0, "revised": 0, "silent": 0}

    def fold(self, rows: WindowRows, window: int) -> Transitions:
        """Take the rows of the next window, known by its number, and return what is complete."""
        places = np.stack([np.full(len(rows), window), np.arange(len(rows))], axis=1)
        n_carried = 0
        if self._carried is not None:
            n_carried = len(self._carried)
            rows = rows.after(self._carried)
            places = np.concatenate([self._carried_places, places])
        self._out = []
        for place in range(n_carried, len(rows)):
            self._add(rows, place)
        transitions = _gather(rows, places, self._out)
        self._carry(rows, places)
        return transitions

    def _add(self, rows: WindowRows, place: int) -> None:
        if rows.revision[place] > 0:
            self.dropped["revised"] += 1
            return
        actor, step = rows.actor[place], int(rows.step[place])
        chain = self._chains.pop(actor, None)
        if chain and (chain.episode != rows.episode[place] or chain.last_step + 1 != step):
            self._break(rows, chain)
            chain = None
        if chain and not rows.has_next[chain.rows[-1]]:  # a stored chain has rows
            self._emit_full(rows, chain, place, OBSERVATION)
        if not rows.settled[place]:
            self.dropped["censored"] += 1
            if chain:
                self._emit_all(rows, chain, place, OBSERVATION)
            return
        chain = chain or Chain(episode=rows.episode[place], rows=[], last_step=step)
        chain.rows.append(place)
        chain.last_step = step
        if rows.terminated[place]:
            self._emit_all(rows, chain, -1, NOTHING)
        elif rows.truncated[place]:
            self._break(rows, chain)
        else:
            if rows.has_next[place]:
                self._emit_full(rows, chain, place, NEXT_OBSERVATION)
            if chain.rows:
                self._chains[actor] = chain

    def _emit_full(self, rows: WindowRows, chain: Chain, after: int, column: int) -> None:
        if len(chain.rows) >= self._n:
            self._emit(rows, chain.rows, after, column)
            chain.rows = chain.rows[1:]

    def _emit_all(self, rows: WindowRows, chain: Chain, after: int, column: int) -> None:
        for first in range(len(chain.rows)):
            self._emit(rows, chain.rows[first:], after, column)

    def _break(self, rows: WindowRows, chain: Chain) -> None:
        """Complete what can be: nothing will follow the chain's last row."""
        last = chain.rows[-1]
        if rows.has_next[last]:
            self._emit_all(rows, chain, last, NEXT_OBSERVATION)
            return
        self.dropped["broken"] += 1
        chain.rows = chain.rows[:-1]
        self._emit_all(rows, chain, last, OBSERVATION)

    def _emit(self, rows: WindowRows, steps: list[int], after: int, column: int) -> None:
        total = 0.0
        for power, place in zip(self._powers, steps, strict=False):
            total += power * float(rows.reward[place])
        discount = 0.0 if column == NOTHING else self._powers[len(steps)]
        self._out.append((steps[0], after, column, total, discount))

    def _carry(self, rows: WindowRows, places: Ints) -> None:
        """Keep the rows of open chains and renumber them for the next frame."""
        while len(self._chains) > MAX_PENDING_ACTORS:
            silent = self._chains.pop(next(iter(self._chains)))
            self.dropped["silent"] += len(silent.rows)
        kept: list[int] = []
        for chain in self._chains.values():
            first = len(kept)
            kept.extend(chain.rows)
            chain.rows = list(range(first, len(kept)))
        index = np.asarray(kept, dtype=np.int64)
        self._carried, self._carried_places = rows.take(index), places[index]

    def open_chains(self) -> list[tuple[str, str, int, list[tuple[int, int]]]]:
        """Return actor, episode, last step and rows (window, row) of every chain, oldest first."""
        return [
            (actor, chain.episode, chain.last_step,
             [(int(w), int(r)) for w, r in self._carried_places[chain.rows]])
            for actor, chain in self._chains.items()
        ]  # fmt: skip

    def restore(
        self,
        chains: list[tuple[str, str, int, list[tuple[int, int]]]],
        rows: WindowRows | None,
        dropped: dict[str, int],
    ) -> None:
        """Put chains back; ``rows`` are theirs, one chain's after the other's."""
        self._chains = {}
        places: list[tuple[int, int]] = []
        for actor, episode, last_step, chain_places in chains:
            first = len(places)
            places.extend((w, r) for w, r in chain_places)
            self._chains[actor] = Chain(episode, list(range(first, len(places))), last_step)
        self._carried = rows
        self._carried_places = np.asarray(places, dtype=np.int64).reshape(-1, 2)
        self.dropped = dict(dropped)


def _gather(
    rows: WindowRows, places: Ints, out: list[tuple[int, int, int, float, float]]
) -> Transitions:
    first = np.asarray([o[0] for o in out], dtype=np.int64)
    after = np.asarray([o[1] for o in out], dtype=np.int64)
    column = np.asarray([o[2] for o in out], dtype=np.int64)
    in_next = (column == NEXT_OBSERVATION)[:, None]
    ends = (column == NOTHING)[:, None]
    following = np.where(in_next, rows.next_observation[after], rows.observation[after])
    mask = np.where(in_next, rows.next_legal[after], rows.legal[after])
    return Transitions(
        observation=rows.observation[first],
        legal=rows.legal[first],
        next_observation=np.where(ends, np.float32(0.0), following),
        next_legal=np.where(ends, np.uint8(1), mask),
        action=rows.action[first],
        reward=np.asarray([o[3] for o in out], dtype=np.float64),
        discount=np.asarray([o[4] for o in out], dtype=np.float64),
        demonstration=rows.demonstration[first],
        sources=Sources(
            window=places[first, 0],
            row=places[first, 1],
            next_window=np.where(column == NOTHING, -1, places[after, 0]),
            next_row=np.where(column == NOTHING, -1, places[after, 1]),
            next_column=column,
        ),
    )
