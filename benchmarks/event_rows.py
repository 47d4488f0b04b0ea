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

from agents.rewards.fold import RewardsFold
from benchmarks.stream_rewards import PACK_EVENTS, TOPICS, Teller, bench_game
from schemas.codec import encode_pack
from schemas.events import Event
from schemas.records import Experience, decode_rows
from streams.engine import Record

ACTORS = 2_000
OUTCOME_MS = 500
BEGIN_MS = 1_760_000_000_000


def event_rows(n: int, seed: int = 1) -> list[Experience]:
    """Return the first n rows that are settled."""
    game = bench_game()
    table: dict[bytes, bytes] = {}
    fold = RewardsFold(0, table, {game.name: game}, TOPICS)
    told = map(Teller(), _events(random.Random(seed)))
    rows: list[Experience] = []
    offset = 0
    while len(rows) < n:
        events: list[Event] = list(islice(told, PACK_EVENTS))
        at_ms = max(event.event_time_ms for event in events)
        effects = fold.fold([Record(0, offset, at_ms, None, encode_pack(events))])
        offset += 1
        for key, state in effects.states.items():
            if state is None:
                table.pop(key, None)
            else:
                table[key] = state
        for output in effects.outputs:
            if output.topic == TOPICS.experiences and output.value:
                found = decode_rows(output.value)
                rows += [row for row in found if isinstance(row, Experience)]
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
