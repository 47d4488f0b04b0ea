"""When the rewards fold must look at a decision or an actor again, by event time."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from agents.rewards.state import accounts
from schemas.game import Domain, Game

ACTOR_IDLE_MS = 600_000
"""An actor without open decisions is forgotten after so much event time."""
FORGET = ""
"""Stands for a decision id in a timer that forgets an idle actor."""

Timer = tuple[int, str, str]
"""(due by event time, actor id, decision id)"""


def closes_after_ms(domain: Domain) -> int:
    """Return how long after a decision something may still revise what it was settled with."""
    return max(domain.horizon_ms, domain.outcome_timeout_ms) + domain.revise_within_ms


def rebuild_timers(
    table: Mapping[bytes, bytes], games: Mapping[str, Game]
) -> tuple[list[Timer], set[str]]:
    """Return the timers of a recovered table as a heap, and the actors that one will forget.

    A million decisions take about a second: accounts are decoded in part and the heap is made once.
    """
    domains = [(name, key, d) for name, game in games.items() for key, d in game.domains.items()]
    waits = {(name, key): d.horizon_ms or d.outcome_timeout_ms for name, key, d in domains}
    closes = {(name, key): closes_after_ms(d) for name, key, d in domains}
    timers: list[Timer] = []
    watched: set[str] = set()
    for actor_id, actor in accounts(table):
        for e in actor.open:
            timers.append((e.time_ms + waits[e.game, e.domain], actor_id, e.decision_id))
        for e in actor.settled:
            timers.append((e.time_ms + closes[e.game, e.domain], actor_id, e.decision_id))
        if not actor.open and not actor.settled:
            watched.add(actor_id)
            timers.append((actor.last_time_ms + ACTOR_IDLE_MS, actor_id, FORGET))
    heapq.heapify(timers)
    return timers, watched
