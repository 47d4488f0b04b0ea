"""A stream in which any number of decisions is open at once, for the benchmarks of growth.

Decision `i` is taken by actor ``i % actors`` at time `i`; its outcome is told when decision
``i + open`` has been. So once there are `open` of them, each event finds as many.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from benchmarks.stream_rewards import bench_game
from schemas.codec import encode_pack
from schemas.events import Decision, Event, Outcome
from schemas.game import Game

T0_MS = 1_760_000_000_000
PACK_EVENTS = 250
DECISIONS_AN_ACTOR = 10
"""Open at once of one actor."""
OBSERVATION = bytes(range(64))
"""16 floats: what is measured is the fold, not memory's speed."""


def patient_game() -> Game:
    """Return a game whose decisions wait for their outcomes as long as the benchmark likes."""
    return bench_game(outcome_timeout_ms=10**9)


class ManyOpen(msgspec.Struct, frozen=True):
    """The stream of one partition."""

    actors: int
    partition: int = 0

    def decision(self, i: int) -> Decision:
        """Return decision `i`."""
        step, actor = divmod(i, self.actors)
        return Decision(
            decision_id=f"d{self.partition}-{i:09d}",
            game="peers",
            world="w",
            episode="e",
            actor_id=f"actor-{self.partition}-{actor:07d}",
            archetype="balanced",
            domain="battle",
            event_time_ms=T0_MS + i,
            step=step,
            observation=OBSERVATION,
            action=i % 8,
            propensity=0.25,
            policy_version="battle-policy-0007",
        )

    def outcome(self, i: int, now: int) -> Outcome:
        """Return the outcome of decision `i`, told at time `now`."""
        decision = self.decision(i)
        return Outcome(
            decision_id=decision.decision_id,
            game="peers",
            actor_id=decision.actor_id,
            event_time_ms=T0_MS + now,
            facts={"won": 1.0, "own_casualties": 3.0},
        )

    def opening(self, n: int) -> Iterator[bytes]:
        """Yield packs of the first `n` decisions."""
        yield from _packs(self.decision(i) for i in range(n))

    def steady(self, first: int, n: int, open_: int) -> Iterator[bytes]:
        """Yield packs of `n` decisions from `first` on, each with the outcome of an older one."""

        def told() -> Iterator[Event]:
            for i in range(first, first + n):
                yield self.decision(i)
                yield self.outcome(i - open_, i)

        yield from _packs(told())


def _packs(events: Iterator[Any]) -> Iterator[bytes]:
    waiting: list[Event] = []
    for event in events:
        waiting.append(event)
        if len(waiting) == PACK_EVENTS:
            yield encode_pack(waiting)
            waiting = []
    if waiting:
        yield encode_pack(waiting)
