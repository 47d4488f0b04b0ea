"""What the games of the ledger's torture say: a function of seed, game process and round alone.

A game process that is killed says its last round again from the start, so some records come twice;
others are sent again on purpose, come late, or are bad.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from schemas.codec import encode_event, encode_pack
from schemas.events import Decision, EpisodeEnd, Event, Outcome, Snapshot
from schemas.game import Game, parse_game
from streams.partitioner import Partitioner

N_FLOATS, N_ACTIONS = 6, 4
ROUND_MS = 250
"""Event time between two decisions of an actor."""
EPISODE_ROUNDS = 40
LATE_ROUNDS = 14
"""A late outcome comes so much later: behind the time-out, before `revise_within_ms` is over."""
AGAIN_ROUNDS = 2
"""A record that is sent again comes again so much later."""
BLOCK = 8
"""Rounds after which nothing is held back: a game may end there."""
LATE, BAD, AGAIN, SINGLE, HELD = 0.01, 0.001, 0.01, 0.02, 0.3
PACK_EVENTS = 40
DOMAINS = ("combat", "growth")


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """What one run is about; every process is told it."""

    seed: int
    games: int = 2
    """Game processes; each plays actors of its own, in every partition."""
    actors: int = 200
    """Of each game process."""
    partitions: int = 4
    start_ms: int
    """Event time of round 0; far enough back that no round is ahead of the log's own time."""


class Said(msgspec.Struct):
    """How much of each kind was said up to some round, sent again by faults not counted."""

    decisions: int = 0
    late: int = 0
    bad: int = 0
    held: int = 0
    """Partitions held back, so that others overtook them."""


def torture_game() -> Game:
    """Two domains: one settles at the outcome, one waits for standing, signals and retaliation."""
    return parse_game(
        {
            "game": "torture",
            "observation": {"layout": "torture@1", "shape": [N_FLOATS]},
            "actions": {"names": ["a", "b", "c", "d"]},
            "rewards": {"torture@1": {"weights": {"hit": 0.5, "lost": -0.25}}},
            "domains": {
                "combat": {"reward": "torture@1", "outcome_timeout_ms": 3_000},
                "growth": {
                    "reward": "torture@1",
                    "outcome_timeout_ms": 3_000,
                    "horizon_ms": 1_000,
                    "standing": "rank",
                    "standing_unit": 10.0,
                    "long_term_weight": 0.5,
                    "aggregate": "sum",
                    "credit": "discounted",
                    "retaliation": "harm",
                    "retaliation_weight": -0.1,
                    "revise_within_ms": 3_000,
                },
            },
            "archetypes": {"wolf": {"model": "wolf"}, "bear": {"model": "bear"}},
            "time": {"allowed_lateness_ms": 1_000},
            "windows": {"max_rows": 500, "max_span_ms": 2_000},
        }
    )


class Turn(msgspec.Struct, gc=False):
    """What one actor does in one round."""

    decision: Decision
    outcome: Outcome
    more: list[Event]
    late: bool
    spoilt: bool
    """The decision is bad, so that it must end among the dead letters."""
    bad_outcome: bool


Piece = tuple[int, bytes]
"""Partition and value of one record."""


class Script:
    """One game process's records, round by round."""

    def __init__(self, play: Play, game: int) -> None:
        self._play = play
        self._game = game
        self._partition_of = Partitioner(play.partitions)
        self._turn = lru_cache(maxsize=play.actors * (LATE_ROUNDS + 4))(self._draw_turn)
        self._own = lru_cache(maxsize=AGAIN_ROUNDS + 8)(self._pack_round)

    def records(self, n: int) -> list[Piece]:
        """Return what is sent in round `n`, in order; that of a held partition comes later."""
        draw = random.Random(f"{self._play.seed}/{self._game}/{n}/order")
        queues: dict[int, list[bytes]] = {}
        for said in self._rounds_due(n):
            for partition, value in said:
                queues.setdefault(partition, []).append(value)
        if n >= AGAIN_ROUNDS:
            for partition, value in self._own(n - AGAIN_ROUNDS):
                if draw.random() < AGAIN:
                    queues.setdefault(partition, []).append(value)
        order = list(queues)
        draw.shuffle(order)
        return [(p, value) for p in order for value in queues[p]]

    def _rounds_due(self, n: int) -> Iterator[list[Piece]]:
        """Whole partitions are held back for up to two rounds, so that others overtake them."""
        held, place = self._held(n // BLOCK), n % BLOCK
        if place == 5:
            for back in (2, 1):
                yield [x for x in self._own(n - back) if x[0] in held]
        now = self._own(n)
        yield [x for x in now if x[0] not in held] if place in (3, 4) else now

    def _held(self, block: int) -> set[int]:
        draw = random.Random(f"{self._play.seed}/{self._game}/{block}/held")
        return {p for p in range(self._play.partitions) if draw.random() < HELD}

    def decision_ids(self, rounds: int) -> tuple[set[str], Said]:
        """Return the good decisions of the first `rounds` rounds, and what else was said."""
        good: set[str] = set()
        said = Said()
        said.held = sum(len(self._held(block)) for block in range(rounds // BLOCK))
        for n in range(rounds):
            for actor in range(self._play.actors):
                turn = self._turn(actor, n)
                said.decisions += 1
                said.late += turn.late and n + LATE_ROUNDS < rounds
                said.bad += turn.spoilt + turn.bad_outcome
                if not turn.spoilt:
                    good.add(turn.decision.decision_id)
        return good, said

    def _pack_round(self, n: int) -> list[Piece]:
        by_partition: dict[int, list[Event]] = {}
        singles: list[Piece] = []
        draw = random.Random(f"{self._play.seed}/{self._game}/{n}/form")
        for actor in range(self._play.actors):
            partition = self._partition_of(self._name(actor))
            events = list(self._events(actor, n))
            if draw.random() < SINGLE:
                singles += [(partition, encode_event(e)) for e in events]
            else:
                by_partition.setdefault(partition, []).extend(events)
            if draw.random() < BAD:
                singles.append((partition, draw.choice(JUNK)))
        packs = [
            (partition, encode_pack(events[i : i + PACK_EVENTS]))
            for partition, events in by_partition.items()
            for i in range(0, len(events), PACK_EVENTS)
        ]
        return packs + singles

    def _events(self, actor: int, n: int) -> Iterator[Event]:
        """What came of the decision before, what came late of an old one, then the next."""
        if n:
            before = self._turn(actor, n - 1)
            if not before.late:
                yield before.outcome
            yield from before.more
        if n >= LATE_ROUNDS:
            old = self._turn(actor, n - LATE_ROUNDS)
            if old.late:
                yield old.outcome
        if n and n % EPISODE_ROUNDS == 0:
            yield EpisodeEnd(
                **self._of(actor),
                world="w",
                episode=f"e{n // EPISODE_ROUNDS - 1}",
                event_time_ms=self._time(actor, n),
                terminated=actor % 2 == 0,
                truncated=actor % 2 == 1,
            )
        yield self._turn(actor, n).decision

    def _draw_turn(self, actor: int, n: int) -> Turn:
        draw = random.Random(f"{self._play.seed}/{self._game}/{actor}/{n}")
        late, spoilt, bad_outcome = draw.random() < LATE, draw.random() < BAD, draw.random() < BAD
        time_ms = self._time(actor, n)
        decision_id = f"g{self._game}.{actor}.{n}"
        decision = self._decision(draw, actor, n, decision_id, spoilt)
        hit = float("nan") if bad_outcome else draw.randrange(5) / 4
        outcome = Outcome(
            **self._of(actor),
            decision_id=decision_id,
            event_time_ms=time_ms + draw.randrange(200),
            facts={"hit": hit, "lost": float(draw.randrange(2))},
        )
        more: list[Event] = []
        if actor % 2 and draw.random() < 0.1:
            more.append(
                msgspec.structs.replace(outcome, signal="second", facts={"hit": draw.random()})
            )
        if draw.random() < 0.2:
            facts = {"rank": float(draw.randrange(100)), "harm": float(draw.randrange(3))}
            opponent = f"g{self._game}.a{draw.randrange(self._play.actors)}"
            more.append(
                Snapshot(
                    **self._of(actor),
                    event_time_ms=time_ms + 100,
                    facts=facts,
                    opponent_id=opponent,
                )
            )
        return Turn(decision, outcome, more, late, spoilt, bad_outcome)

    def _decision(
        self, draw: random.Random, actor: int, n: int, decision_id: str, spoilt: bool
    ) -> Decision:
        floats = [draw.randrange(64) / 64 for _ in range(N_FLOATS - (1 if spoilt else 0))]
        return Decision(
            **self._of(actor),
            decision_id=decision_id,
            world="w",
            episode=f"e{n // EPISODE_ROUNDS}",
            archetype="wolf" if actor % 3 else "bear",
            domain=DOMAINS[actor % 2],
            event_time_ms=self._time(actor, n),
            step=n % EPISODE_ROUNDS,
            observation=struct.pack(f"<{len(floats)}f", *floats),
            action=draw.randrange(N_ACTIONS),
            propensity=0.25,
            policy_version=f"v{n // 100}",
            opponent_id=f"g{self._game}.a{draw.randrange(self._play.actors)}",
            facts={"rank": float(draw.randrange(100))} if draw.random() < 0.3 else None,
        )

    def _name(self, actor: int) -> str:
        return f"g{self._game}.a{actor}"

    def _of(self, actor: int) -> dict[str, Any]:
        return {"game": "torture", "actor_id": self._name(actor)}

    def _time(self, actor: int, n: int) -> int:
        return self._play.start_ms + n * ROUND_MS + actor % 50


JUNK = (
    b"\x00\xff not an event",
    b"",
    b"{",
    b'{"type":"decision.v9","decision_id":"x"}',
    b"\x91\xc1",
    encode_event(
        Outcome(decision_id="nobody's", game="torture", actor_id="a", event_time_ms=1, facts={})
    ),
)
"""Records that no fold can take: each must become a dead letter, and stop nothing."""
