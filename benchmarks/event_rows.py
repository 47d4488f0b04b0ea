"""Rows that the rewards agent makes of events like the stream benchmark's, for `sink_copy`.

Sixteen floats, eight actions, an outcome after half a second for nineteen decisions of twenty, and
the five archetypes by turns, so that windows of all five fill side by side.
"""

from __future__ import annotations

import heapq
import random
import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Any

from benchmarks.settling import Settling
from benchmarks.stream_rewards import PACK_EVENTS, Teller, bench_game
from schemas.records import Experience

ACTORS = 2_000
OUTCOME_MS = 500
BEGIN_MS = 1_760_000_000_000


def event_rows(n: int, seed: int = 1) -> list[Experience]:
    """Return the first n rows that are settled."""
    settling = Settling(bench_game())
    told = map(Teller(), _events(random.Random(seed)))
    rows: list[Experience] = []
    while len(rows) < n:
        events = list(islice(told, PACK_EVENTS))
        rows += settling.take(events, max(event.event_time_ms for event in events))
    return rows[:n]


def _events(draw: random.Random) -> Iterator[dict[str, Any]]:
    """Yield the peers' decisions and outcomes, one a millisecond, in order of time."""
    archetypes = list(bench_game().archetypes)
    free = [f"actor-{i:06d}" for i in range(ACTORS)]
    waiting: list[tuple[int, str, str]] = []
    n, at_ms = 0, BEGIN_MS
    while True:
        at_ms += 1
        if waiting and waiting[0][0] <= at_ms:
            _, decision_id, actor = heapq.heappop(waiting)
            free.append(actor)
            yield {
                "type": "outcome", "decision_id": decision_id, "actor_id": actor,
                "event_time_ms": at_ms, "won": draw.random() < 0.55,
                "enemy_casualties": draw.randrange(400), "own_casualties": draw.randrange(200),
                "resources_gained": draw.randrange(60_000), "predicted_won": draw.random() < 0.6,
            }  # fmt: skip
            continue
        decision_id = str(uuid.UUID(int=draw.getrandbits(128), version=4))
        place = draw.randrange(len(free))
        actor = free[place]
        if draw.random() < 0.95:
            free[place] = free[-1]
            free.pop()
            heapq.heappush(waiting, (at_ms + OUTCOME_MS, decision_id, actor))
        yield {
            "type": "decision", "decision_id": decision_id, "actor_id": actor,
            "event_time_ms": at_ms, "archetype": archetypes[n % len(archetypes)],
            "domain": "battle", "action": draw.randrange(8),
            "observation": [round(draw.uniform(-1, 1), 5) for _ in range(16)],
            "propensity": round(draw.uniform(0.05, 0.95), 6),
            "policy_version": f"battle-policy-{draw.randrange(1, 40):04d}",
        }  # fmt: skip
        n += 1
