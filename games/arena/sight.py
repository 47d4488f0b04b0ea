"""What the places of a moment mean, and how one of five is picked."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from games.arena import rules

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

FAR: Final = np.float32(99.0)
"""The distance of the dead."""
NOBODY: Final = 7
"""A slot that nobody has."""
_SLOTS: Final = np.arange(rules.PACK, dtype=np.int32)[None, None, :, None]
_NETWORK: Final = ((0, 1), (3, 4), (2, 4), (2, 3), (1, 4), (0, 3), (0, 2), (1, 3), (1, 2))
"""Compare-exchanges that sort five (Knuth, The Art of Computer Programming 3, 5.3.4)."""


class Sight(NamedTuple):
    """What the places of a moment mean; enemies by slot unless said otherwise."""

    dx: Floats
    """[2, 5, 5, W] from an actor to each enemy, own frame."""
    dy: Floats
    dist: Floats
    order: Ints
    """[2, 5, 5, W]: the enemies' slots from the nearest to the farthest, the dead last."""
    nearest: Floats
    """[2, 5, W]: distance to the nearest enemy."""
    in_reach: Flags
    ally: Floats
    """[2, 5, 5, W]: distance to each of the own pack; 0 to oneself, `FAR` to the dead."""
    on_hill: Flags
    """[2, 5, W]."""


def look(x: Floats, y: Floats, alive: Flags, reach: Floats, hills: Floats) -> Sight:
    """Return what places [2, 5, W] mean; `hills` is [2, (x, y), W]."""
    dx, dy = _apart(x), _apart(y)
    dist = np.where(alive[::-1, None], np.sqrt(dx * dx + dy * dy), FAR)
    ax, ay = x[:, None] - x[:, :, None], y[:, None] - y[:, :, None]
    ally = np.where(alive[:, None], np.sqrt(ax * ax + ay * ay), FAR)
    on_hill = np.zeros(alive.shape, np.bool_)
    for hill in hills:
        hx, hy = x - hill[0], y - hill[1]
        on_hill |= hx * hx + hy * hy <= rules.HILL_RADIUS**2
    in_reach = dist <= reach[:, :, None]
    return Sight(dx, dy, dist, sorted_slots(dist), dist.min(axis=2), in_reach, ally, on_hill)


def slot_of_least(values: Floats, among: Flags) -> Ints:
    """[2, 5, W]: which of the third axis is least among some; `NOBODY` where there is none.

    Equals go to the lower slot; values, at most 10,000, are told apart to 1/64.
    """
    ranked = np.where(among, values * 64.0, 1e6).astype(np.int32) * 8
    ranked += _SLOTS
    least = ranked.min(axis=2)
    slot: Ints = np.where(least < 7_000_000, least & 7, NOBODY).astype(np.int64)
    return slot


def sorted_slots(dist: Floats) -> Ints:
    """Slots by distance, told apart to 1/1024; the lower slot first among equals."""
    ranked = (dist * 1024.0).astype(np.int32) * 8
    ranked += _SLOTS
    rows = [ranked[:, :, slot] for slot in range(rules.PACK)]
    for low, high in _NETWORK:
        rows[low], rows[high] = np.minimum(rows[low], rows[high]), np.maximum(rows[low], rows[high])
    order: Ints = (np.stack(rows, axis=2) & 7).astype(np.int64)
    return order


def _apart(place: Floats) -> Floats:
    """[2, 5, 5, W]: an enemy's place less one's own, in one's own frame."""
    first = place[1][None] - place[0][:, None]
    return np.stack([first, first.transpose(1, 0, 2)])
