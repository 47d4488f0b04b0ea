"""The scripted pack: walk to the nearest enemy in view, hit when adjacent."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Choice, Uniforms, choose, one_hot
from games.battle.legal import HITS, MOVES, STAY, column
from games.battle.world import N_ACTIONS, N_MOVES

_VIEW_RADIUS: Final = 6
_ENEMY: Final = 3


def _squares() -> list[tuple[int, int]]:
    """Offsets in view but the observer's own, nearest first; ties row by row as in the view."""
    reach = range(-_VIEW_RADIUS, _VIEW_RADIUS + 1)
    inside = [(x, y) for y in reach for x in reach if 0 < x * x + y * y <= _VIEW_RADIUS**2]
    return sorted(inside, key=lambda s: s[0] ** 2 + s[1] ** 2)


_SQUARES: Final = _squares()
_COLUMNS: Final = np.array([column(x, y, _ENEMY) for x, y in _SQUARES])


def _hits() -> NDArray[np.int64]:
    """i64[S]: the action that hits each square, -1 where it is too far."""
    return np.array([N_MOVES + HITS.index(s) if s in HITS else -1 for s in _SQUARES])


def _approaches() -> NDArray[np.int64]:
    """i64[S]: the move that ends nearest to each square; ties by the lower number."""

    def nearest(x: int, y: int) -> int:
        return min(range(N_MOVES), key=lambda k: (MOVES[k][0] - x) ** 2 + (MOVES[k][1] - y) ** 2)

    return np.array([nearest(x, y) for x, y in _SQUARES])


_HIT: Final = _hits()
_APPROACH: Final = _approaches()


class ScriptedRule:
    """What the game's own AI does; the same in every match, but for wandering.

    Hits the nearest enemy when it is adjacent, else makes the move that ends nearest to it, or
    stays where that is not legal (it waits behind its own); with no enemy in view any legal move
    alike, staying among them. Against itself 40 % of matches are won and 20 % drawn. A pack that
    walked around its own instead would win 65 % against this one: it is the game's script as it
    is and not the best one.
    """

    version = "scripted"

    def distribution(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """See `Rule.distribution`."""
        enemies = observations.take(_COLUMNS, axis=1) > 0
        nearest = enemies.argmax(axis=1)
        rows = np.arange(len(observations))
        seen = enemies[rows, nearest]
        go = _APPROACH[nearest]
        go = np.where(legal[rows, go], go, STAY)
        hit = _HIT[nearest]
        base = one_hot(np.where(hit >= 0, hit, go), N_ACTIONS)
        wander = ~seen
        moves = legal[wander, :N_MOVES]
        base[wander] = 0.0
        base[wander, :N_MOVES] = moves / moves.sum(axis=1, keepdims=True)
        return base


class ScriptedPolicy:
    """The scripted pack as it is, without exploration."""

    version = ScriptedRule.version

    def __init__(self) -> None:
        self._rule = ScriptedRule()

    def act(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_], rng: Uniforms
    ) -> Choice:
        """See `Policy.act`."""
        return choose(self._rule.distribution(observations, legal), legal, 0.0, rng)
