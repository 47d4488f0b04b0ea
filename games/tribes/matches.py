"""Whole matches of one chief against three that another policy leads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.policies.choice import Policy, RowRandom
from agents.policies.mix import RandomPolicy
from games.match import MatchResult
from games.seeds import stream_keys
from games.tribes import rules
from games.tribes.events import result_of
from games.tribes.view import observe
from games.tribes.world import Tribes, reset_all

_T = rules.TRIBES


def play_matches(
    home: Policy, away: Policy, seeds: Sequence[int], n_worlds: int = 64, opening: int = 0
) -> list[MatchResult]:
    """Play every seed twice, home in a seat that the seed gives and in the one across.

    In the first `opening` turns all move at random. The result is a function of the policies and
    the seeds alone: a match draws from streams of its own, so that `n_worlds` does not change it.
    Results come in the order of the seeds.
    """
    plan = [(seed, (seed + across) % _T) for seed in seeds for across in (0, _T // 2)]
    results = []
    for lo in range(0, len(plan), n_worlds):
        results += _side_by_side(home, away, plan[lo : lo + n_worlds], opening)
    return results


def _side_by_side(
    home: Policy, away: Policy, plan: Sequence[tuple[int, int]], opening: int
) -> list[MatchResult]:
    worlds = Tribes(len(plan))
    reset_all(worlds, [seed for seed, _ in plan])
    streams = RowRandom(np.concatenate([stream_keys(seed, _T) for seed, _ in plan]))
    seats = np.arange(len(plan)) * _T + np.array([seat for _, seat in plan])
    others = np.setdiff1d(np.arange(len(plan) * _T), seats)
    opener = RandomPolicy()
    actions = np.zeros(len(plan) * _T, np.int64)
    for turn in range(rules.TURNS):
        seen = observe(worlds).reshape(len(actions), -1)
        legal = worlds.legal().reshape(len(actions), -1)
        for policy, rows in ((home, seats), (away, others)):
            player = opener if turn < opening else policy
            actions[rows] = player.act(seen[rows], legal[rows], streams.rows(rows)).actions
        worlds.step(actions.reshape(len(plan), _T))
    points = worlds.points
    return [
        MatchResult(
            seed=seed,
            side=f"seat {seat}",
            result=result_of(points[k], seat),
            steps=rules.TURNS,
            survivors=int(worlds.villages[k, seat]),
        )
        for k, (seed, seat) in enumerate(plan)
    ]
