"""What came after a step: sums over the next steps, and whether the rows know them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.practice import Episodes

OVER, UNKNOWN = -1, -2
"""In place of the number of the row behind: nothing comes, or it is not known what comes."""


def following(rows: Episodes) -> NDArray[np.int64]:
    """Return for each row the row behind it in its actor's episode, `OVER` or `UNKNOWN`.

    Nothing comes behind a terminated row; what comes behind a truncated one, or one whose next
    step is missing, is not known.
    """
    n = len(rows)
    behind = np.full(n, UNKNOWN, np.int64)
    goes_on = ~(rows.first[1:] | rows.terminated[:-1] | rows.truncated[:-1])
    goes_on &= rows.step[1:] == rows.step[:-1] + 1
    goes_on &= (rows.match[1:] == rows.match[:-1]) & (rows.actor[1:] == rows.actor[:-1])
    behind[:-1][goes_on] = np.flatnonzero(goes_on) + 1
    behind[rows.terminated] = OVER
    return behind


def discounted_ahead(
    values: NDArray[np.float32], behind: NDArray[np.int64], discount: float, horizon: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return ``sum_{j < horizon} discount^j values[j steps on]`` [N, K] and whether it is known.

    ``behind`` [N] is as `following` returns it: after `OVER` come zeros, after `UNKNOWN` nothing
    is known.
    """
    total = np.zeros(values.shape, np.float64)
    at = np.arange(len(values))
    for j in range(horizon):
        there = at >= 0
        total[there] += discount**j * values[at[there]]
        if j + 1 < horizon:
            at = np.where(there, behind[np.maximum(at, 0)], at)
    return total.astype(np.float32), at != UNKNOWN


def pack_steps(
    rows: Episodes,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return the steps of all matches: each row's step, threat [M, E] of each, and what follows.

    What is done to a pack goes on after one of its actors died: it is read from the rows of the
    others. A match is over where its last step's rows all terminated.
    """
    width = int(rows.step.max(initial=0)) + 2  # a gap: the last step has no neighbour
    keys, where = np.unique(rows.match * width + rows.step, return_inverse=True)
    where = where.reshape(-1)
    count = np.bincount(where).astype(np.float64)
    threat = np.stack([np.bincount(where, column) for column in rows.threat.T], 1) / count[:, None]
    all_over = np.bincount(where, rows.terminated) == count
    behind = np.where(all_over, OVER, UNKNOWN)
    near = np.flatnonzero(np.diff(keys) == 1)
    behind[near] = near + 1
    return where.astype(np.int64), threat.astype(np.float32), behind


def longest(rows: Episodes, most: int) -> int:
    """Return the steps of the longest episode, at most ``most``."""
    starts = np.flatnonzero(rows.first)
    return min(most, int(np.diff(np.append(starts, len(rows))).max(initial=1)))


def begins(behind: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows no row comes before, of what `following` returned."""
    first = np.ones(len(behind), np.bool_)
    first[behind[behind >= 0]] = False
    return first
