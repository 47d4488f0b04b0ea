"""N-step returns over chained rows, all rows of a batch at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TERMINATED, TRUNCATED, CLOSED, UNSETTLED = 1, 2, 4, 8
"""Flags of a row: how its episode ended; nothing will follow it; its reward is not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Links:
    """Columns by slot: what is read of rows, and where the results are written."""

    reward: NDArray[np.float32]
    flags: NDArray[np.uint8]
    follow: NDArray[np.int32]
    """Slot of the row that follows in the episode; -1: none, or not yet."""
    extra: NDArray[np.int32]
    """Place of the next observation where it is not that of the row that follows; else -1."""
    after: NDArray[np.int32]
    """Written: place of the observation that is bootstrapped."""
    returns: NDArray[np.float32]
    discount: NDArray[np.float32]


def n_step_returns(
    orders: Ints,
    slots_of: Callable[[Ints], Ints],
    links: Links,
    n_step: int,
    discount: float,
) -> tuple[Ints, Ints, int]:
    """Write return, discount and bootstrapped place of rows whose next n steps are known.

    A return is ``sum of gamma^k r_k`` over the m <= n steps taken, bootstrapped with ``gamma^m``:
    terminated with 0; truncated with the observation after it. Where a chain breaks (a step is
    missing, its reward is not known, a new episode begins) the steps before it become shorter
    returns that bootstrap at the last observation known.

    Returns:
        slots of rows that can be sampled, orders of those that wait, and how many can never be:
        nothing is known after them.
    """
    starts = slots_of(orders)
    walk = _Walk(starts, links)
    for k in range(n_step):
        walk.step(k, discount, is_last=k == n_step - 1)
    done = walk.done
    links.after[starts[done]] = walk.after[done]
    links.returns[starts[done]] = walk.total[done]
    links.discount[starts[done]] = walk.discount[done]
    waits = ~done & ~walk.dropped
    return starts[done], orders[waits], int(walk.dropped.sum())


class _Walk:
    """Goes from N rows along their chains, a step of all rows at a time."""

    def __init__(self, starts: Ints, links: Links) -> None:
        n = len(starts)
        self._links, self._starts = links, starts
        self._live, self._at = np.arange(n), starts  # rows that go on, and where they are
        self.total, self.discount = np.zeros(n), np.zeros(n)
        self.after = np.full(n, -1, np.int64)
        self.done, self.dropped = np.zeros(n, np.bool_), np.zeros(n, np.bool_)

    def step(self, k: int, gamma: float, *, is_last: bool) -> None:
        """Take the k-th reward, and finish what ends there."""
        links = self._links
        before = self.total[self._live]
        self.total[self._live] = before + gamma**k * links.reward[self._at]
        flags = links.flags[self._at]
        follow, extra = links.follow[self._at], links.extra[self._at]
        over = (flags & TERMINATED) != 0
        self._finish(over, self._starts[self._live], 0.0)
        known = follow >= 0
        stops = known & ((links.flags[follow] & UNSETTLED) != 0)
        if is_last:
            place = np.where(extra >= 0, extra, follow)
            found = ~over & (place >= 0)
            self._finish(found, place, gamma ** (k + 1))
            goes = np.zeros_like(found)
        else:
            found = ~over & stops
            self._finish(found, follow, gamma ** (k + 1))
            goes = ~over & known & ~stops
        ends = ~over & ~found & ~goes & ((flags & (CLOSED | TRUNCATED)) != 0)
        self._finish(ends & (extra >= 0), extra, gamma ** (k + 1))
        short = ends & (extra < 0)  # the last row's own reward has nothing behind it
        if k:
            self.total[self._live[short]] = before[short]
            self._finish(short, self._at, gamma**k)
        else:
            self.dropped[self._live[short]] = True
        self._live, self._at = self._live[goes], follow[goes].astype(np.int64)

    def _finish(self, which: Bools, place: NDArray[np.integer], discount: float) -> None:
        rows = self._live[which]
        self.after[rows] = place[which]
        self.discount[rows] = discount
        self.done[rows] = True
