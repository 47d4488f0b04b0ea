"""The game's legality: which of the 21 actions an observation allows.

Hitting is legal where an enemy stands. Going to a square is legal when it is on the map and
nothing stands there: no wall, no friend, no enemy. Staying is always legal. Every policy,
random, scripted or learned, is given this mask and keeps to it.

The mask speaks of the moment of decision. The engine then carries out all attacks of the step
in random order and after them the moves of red and of blue, so a legal hit may find its target
dead already, and a legal move its square taken by one who went first. What the mask forbids the
engine would carry out as nothing, at the price of a missed blow.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from games.battle.world import CHANNELS, N_ACTIONS, N_MOVES, VIEW

_WALL, _OWN, _ENEMY = 0, 1, 3
_MIDDLE: Final = VIEW // 2


def _circle(radius: float) -> list[tuple[int, int]]:
    """Offsets (dx, dy) within a radius in the engine's order, row by row."""
    reach = range(-int(radius), int(radius) + 1)
    return [(dx, dy) for dy in reach for dx in reach if dx * dx + dy * dy <= radius * radius]


MOVES: Final = tuple(_circle(2))
"""(dx, dy) of actions 0 to 12; y grows downwards."""
HITS: Final = tuple(offset for offset in _circle(1.5) if offset != (0, 0))
"""(dx, dy) of actions 13 to 20."""
STAY: Final = MOVES.index((0, 0))

ACTION_NAMES: Final = tuple(
    ["stay" if m == (0, 0) else f"move_{m[0]}_{m[1]}" for m in MOVES]
    + [f"hit_{h[0]}_{h[1]}" for h in HITS]
)


def column(dx: int, dy: int, channel: int) -> int:
    """The place in a flat observation of a channel of the square at an offset."""
    return ((_MIDDLE + dy) * VIEW + _MIDDLE + dx) * CHANNELS + channel


def _columns() -> NDArray[np.int64]:
    """What the mask looks at: i64[4 * 13 + 8].

    For each move: wall, friend and enemy on its square, and the wall on its way; then for each
    hit the enemy on its square. A move of two squares steps over a wall only to leave the map,
    where the view shows nothing at all. Columns that do not apply repeat the wall under the
    observer, which is never there.
    """
    clear = column(0, 0, _WALL)
    seen = []
    for dx, dy in MOVES:
        here = (dx, dy) == (0, 0)
        seen += [clear if here else column(dx, dy, c) for c in (_WALL, _OWN, _ENEMY)]
        far = dx * dx + dy * dy == 4
        seen.append(column(dx // 2, dy // 2, _WALL) if far else clear)
    seen += [column(dx, dy, _ENEMY) for dx, dy in HITS]
    return np.array(seen, dtype=np.int64)


_COLUMNS: Final = _columns()
_FOR_MOVES: Final = 4 * N_MOVES


def legal_actions(observations: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """bool[B, 21] for observations f32[B, 845]."""
    seen = observations.take(_COLUMNS, axis=1) > 0
    legal = np.empty((len(observations), N_ACTIONS), dtype=np.bool_)
    blocked = seen[:, :_FOR_MOVES].reshape(-1, N_MOVES, 4).any(axis=2)
    np.logical_not(blocked, out=legal[:, :N_MOVES])
    legal[:, N_MOVES:] = seen[:, _FOR_MOVES:]
    return legal
