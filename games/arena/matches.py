"""Whole matches of one policy against another, from both sides of each start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Policy, RowRandom
from agents.policies.mix import RandomPolicy
from games.arena import rules
from games.arena.events import full_mask
from games.arena.play import as_keys
from games.arena.rule import HEADS
from games.arena.scripted import scripted
from games.arena.view import observe
from games.arena.world import Arena, Orders
from games.match import MatchResult, Result
from games.seeds import stream_keys
from schemas.practice import ARCHETYPES

P = rules.PACK
_RESULTS: dict[float, Result] = {1.0: "won", 0.5: "draw", 0.0: "lost"}


def play_matches(
    home: Policy,
    away: Policy,
    seeds: Sequence[int],
    archetype: str,
    n_worlds: int = 64,
    opening: int = 0,
) -> list[MatchResult]:
    """Play every seed twice; the sides change starts. Both packs are of the archetype.

    The policies choose combat actions, moves and skills; the aim is the script's. In the first
    `opening` steps all choose at random. The result is a function of policies and seeds: a match
    draws from streams of its own. Results come in the order of the seeds.
    """
    plan = [(seed, flip) for seed in seeds for flip in (False, True)]
    results: list[MatchResult] = []
    for lo in range(0, len(plan), n_worlds):
        results += _side_by_side(home, away, plan[lo : lo + n_worlds], archetype, opening)
    return results


def _side_by_side(
    home: Policy, away: Policy, plan: Sequence[tuple[int, bool]], archetype: str, opening: int
) -> list[MatchResult]:
    n = len(plan)
    arena = Arena(n)
    seeds, flip = [seed for seed, _ in plan], np.array([flip for _, flip in plan])
    kinds = np.full((2, n), ARCHETYPES.index(archetype), np.int64)
    arena.begin(np.arange(n), as_keys(seeds), kinds, flip)
    streams = RowRandom(np.concatenate([stream_keys(seed, 2 * P) for seed in seeds]))
    degree = np.full((2, 1, n), 2, np.int64)
    opener = RandomPolicy()
    for step in range(rules.LIMIT):
        if arena.over.all():
            break
        players = (opener, opener) if step < opening else (home, away)
        heads = [np.zeros((2, P, n), np.int64) for _ in range(3)]
        for side, policy in enumerate(players):
            seen, alive = observe(arena, side), arena.alive[side].T
            rows = _streams_of(alive, side)
            for head, chosen in zip(HEADS, heads, strict=False):
                legal = full_mask(head, arena.legal(head)[:, side].transpose(2, 1, 0)[alive])
                found = policy.act(seen[alive], legal, streams.rows(rows))
                table = np.zeros(alive.shape, np.int64)
                table[alive] = found.actions - rules.FIRST[head]
                chosen[side] = table.T
        arena.step(Orders(heads[0], heads[1], heads[2], scripted(arena, degree).aim))
    scores, left = arena.scores(), arena.alive[0].sum(axis=0)
    return [
        MatchResult(
            seed=seed,
            side="east" if flipped else "west",
            result=_RESULTS[float(scores[w])],
            steps=int(arena.step_no[w]),
            survivors=int(left[w]),
        )
        for w, (seed, flipped) in enumerate(plan)
    ]


def _streams_of(alive: NDArray[np.bool_], side: int) -> NDArray[np.int64]:
    world, slot = np.nonzero(alive)
    return world * 2 * P + side * P + slot
