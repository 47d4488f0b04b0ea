"""Whole matches of one policy against another on paired seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Policy, RowRandom
from agents.policies.mix import RandomPolicy
from games.battle.legal import legal_actions
from games.battle.world import BLUE, PACK_SIZE, RED, BattleWorld
from games.match import MatchResult
from games.seeds import stream_keys

_STREAMS: Final = 2 * PACK_SIZE


class _Match(NamedTuple):
    order: int
    seed: int
    home: int


def play_matches(
    home: Policy,
    away: Policy,
    seeds: Sequence[int],
    swap_sides: bool = True,
    n_worlds: int = 64,
    opening: int = 0,
) -> list[MatchResult]:
    """Plays every seed, with `swap_sides` once as red and once as blue, one after the other.

    In the first `opening` steps both sides move at random: two policies that draw nothing would
    play the same match on nearly every seed, as all start alike. The scripted pack wanders by
    itself and needs none.

    The result is a function of the policies and the seeds alone: a match draws from streams of
    its own, so neither `n_worlds` nor the other matches change it. Results come in the order of
    the seeds.
    """
    sides = (RED, BLUE) if swap_sides else (RED,)
    plan = [(seed, side) for seed in seeds for side in sides]
    matches = iter([_Match(k, seed, side) for k, (seed, side) in enumerate(plan)])
    results: list[MatchResult | None] = [None] * len(plan)
    arena = _Arena(min(n_worlds, len(plan)), matches, opening)
    while arena.playing:
        arena.step(home, away)
        for match, world in arena.finish():
            results[match.order] = MatchResult(
                seed=match.seed,
                side="red" if match.home == RED else "blue",
                result=world.result(match.home),
                steps=world.steps,
                survivors=world.alive(match.home),
            )
    return [result for result in results if result is not None]


class _Arena:
    """Worlds that run side by side so that each policy answers for all of them at once."""

    def __init__(self, n_worlds: int, matches: Iterator[_Match], opening: int) -> None:
        self._matches = matches
        self._opening = opening
        self._opener = RandomPolicy()
        self._worlds = [BattleWorld() for _ in range(n_worlds)]
        self._random = RowRandom(np.zeros(n_worlds * _STREAMS, dtype=np.uint64))
        self._current: dict[int, _Match] = {}
        for k in range(n_worlds):
            self._begin(k)

    @property
    def playing(self) -> bool:
        return bool(self._current)

    def step(self, home: Policy, away: Policy) -> None:
        """One step of every world that plays."""
        ours = self._act(home, {k: match.home for k, match in self._current.items()})
        theirs = self._act(away, {k: 1 - match.home for k, match in self._current.items()})
        for k, match in self._current.items():
            if match.home == RED:
                self._worlds[k].step(ours[k], theirs[k])
            else:
                self._worlds[k].step(theirs[k], ours[k])

    def finish(self) -> Iterator[tuple[_Match, BattleWorld]]:
        """Yields each match that is over, then begins the next one in its world."""
        for k, match in list(self._current.items()):
            if self._worlds[k].over:
                yield match, self._worlds[k]
                del self._current[k]
                self._begin(k)

    def _act(self, policy: Policy, sides: dict[int, int]) -> dict[int, NDArray[np.int64]]:
        """The actions of one side of each world: the policy's, or random ones in the opening."""
        early = {k: t for k, t in sides.items() if self._worlds[k].steps < self._opening}
        late = {k: t for k, t in sides.items() if k not in early}
        return self._ask(self._opener, early) | self._ask(policy, late)

    def _ask(self, policy: Policy, sides: dict[int, int]) -> dict[int, NDArray[np.int64]]:
        if not sides:
            return {}
        rows = np.concatenate(
            [k * _STREAMS + t * PACK_SIZE + self._worlds[k].slots(t) for k, t in sides.items()]
        )
        observations = np.concatenate([self._worlds[k].observations(t) for k, t in sides.items()])
        choice = policy.act(observations, legal_actions(observations), self._random.rows(rows))
        ends = np.cumsum([self._worlds[k].alive(t) for k, t in sides.items()])
        return dict(zip(sides, np.split(choice.actions, ends[:-1]), strict=True))

    def _begin(self, k: int) -> None:
        match = next(self._matches, None)
        if match is None:
            return
        self._current[k] = match
        self._worlds[k].reset(match.seed)
        streams = np.arange(k * _STREAMS, (k + 1) * _STREAMS)
        self._random.restart(streams, stream_keys(match.seed, _STREAMS))
