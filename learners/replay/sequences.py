"""Unbroken sequences of steps, found by going along the chains of all draws at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.replay.nstep import TERMINATED, TRUNCATED, UNSETTLED

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class Walked:
    """Where the steps of sequences stand; T = burn-in + length."""

    slots: Ints
    """[S, B, T]; any slot where `there` is false."""
    there: Bools
    learned: Bools
    terminated: Bools
    truncated: Bools
    last_place: Ints
    """[S, B] of the observation behind the last step, 0 where it is not known."""
    bootstraps: Bools


def walk_sequences(
    columns: dict[str, NDArray[Any]], slots: Ints, first: Ints, length: int, burn_in: int
) -> Walked:
    """Return sequences whose first learned steps are ``slots`` [S, B].

    Args:
        columns: `follow`, `back`, `flags` and `extra`, rows [S * C].
        slots: of the steps drawn.
        first: number of each model's first row [S, 1].
        length: steps that are learned, fewer where an episode ends.
        burn_in: steps before them, fewer where an episode begins.
    """
    follow, flags = columns["follow"], columns["flags"]
    at, n_before = _go_back(columns, slots, first, burn_in)
    n_steps = burn_in + length
    found = np.zeros((*slots.shape, n_steps), np.int64)
    there = np.zeros(found.shape, np.bool_)
    on = np.ones(slots.shape, np.bool_)
    last = at
    for t in range(n_steps):
        on = on & (t < n_before + length)
        found[..., t], there[..., t] = np.where(on, at, 0), on
        last = np.where(on, at, last)
        following = follow[at + first].astype(np.int64)
        on = on & (following >= 0) & ((flags[following + first] & UNSETTLED) == 0)
        at = np.where(on, following, at)
    ended = flags[found + first[..., None]]
    place = columns["extra"][last + first].astype(np.int64)
    place = np.where(place >= 0, place, follow[last + first])
    known = (place >= 0) & ((flags[last + first] & TERMINATED) == 0)
    return Walked(
        slots=found,
        there=there,
        learned=there & (np.arange(n_steps) >= n_before[..., None]),
        terminated=there & ((ended & TERMINATED) != 0),
        truncated=there & ((ended & TRUNCATED) != 0),
        last_place=np.where(known, place, 0),
        bootstraps=known,
    )


def _go_back(
    columns: dict[str, NDArray[Any]], slots: Ints, first: Ints, burn_in: int
) -> tuple[Ints, Ints]:
    """Return where sequences begin and how many steps [S, B] lie before those drawn."""
    at, n_before = slots, np.zeros(slots.shape, np.int64)
    on = np.ones(slots.shape, np.bool_)
    for _ in range(burn_in):
        behind = columns["back"][at + first].astype(np.int64)
        # an overwritten row is followed by another, if by any
        on = on & (behind >= 0) & (columns["follow"][behind + first] == at)
        at = np.where(on, behind, at)
        n_before += on
    return at, n_before
