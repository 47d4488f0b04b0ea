"""Experience computed from a whole log at once, in the plainest way: what the fold must equal.

Nothing is shared with the fold but the reward formula of one outcome; each decision looks through
all events of the log, by event time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from agents.rewards.facts import clip
from agents.rewards.rules import compile_reward
from schemas.events import Decision, EpisodeEnd, Event, Outcome, Snapshot, vector_bytes
from schemas.game import Domain, Game
from schemas.records import Experience

AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "earliest": lambda v: v[0],
    "latest": lambda v: v[-1],
    "sum": sum,
    "mean": lambda v: sum(v) / len(v),
    "median": statistics.median,
    "min": min,
    "max": max,
}


class Settled(NamedTuple):
    """What both ways must agree on."""

    status: str
    immediate: float
    long_term: float
    total: float
    before: float | None
    after: float | None
    credit: float | None
    retaliation: float | None
    next_observation: bytes | None
    terminated: bool
    truncated: bool
    n_signals: int


def of_row(row: Experience) -> Settled:
    return Settled(
        row.status,
        row.immediate,
        round(row.long_term, 9),
        round(row.total, 9),
        row.standing_before,
        row.standing_after,
        None if row.credit is None else round(row.credit, 9),
        row.retaliation,
        row.next_observation,
        row.terminated,
        row.truncated,
        len(row.signals or ()) + (row.outcome_facts is not None),
    )


def batch(log: Sequence[Event], game: Game) -> dict[str, Settled]:
    """Return what is settled at the log's end, by decision id; the last revision of each."""
    watermark_ms = max((e.event_time_ms for e in log), default=0) - game.time.allowed_lateness_ms
    found = {}
    for at, event in enumerate(log):
        if isinstance(event, Decision):
            settled = _Case(log, at, event, game).settle(watermark_ms)
            if settled is not None:
                found[event.decision_id] = settled
    return found


class _Case:
    """One decision and the log around it."""

    def __init__(self, log: Sequence[Event], at: int, event: Decision, game: Game) -> None:
        self.domain: Domain = game.domains[event.domain]
        self.game, self.event, self.time_ms = game, event, event.event_time_ms
        self.end_ms = self.time_ms + self.domain.horizon_ms
        self.cut_ms = self.time_ms + max(self.domain.horizon_ms, self.domain.outcome_timeout_ms)
        self.mine = [e for e in log if getattr(e, "actor_id", None) == event.actor_id]
        self.later = [e for e in log[at + 1 :] if getattr(e, "actor_id", None) == event.actor_id]

    def settle(self, watermark_ms: int) -> Settled | None:
        outcomes = self._outcomes()
        follows = self._follows()
        ends = [e for e in self.later if isinstance(e, EpisodeEnd)]
        ends = [
            e for e in ends if e.episode == self.event.episode and e.event_time_ms <= self.cut_ms
        ]
        end = ends[0] if ends and follows is None else None
        complete = bool(outcomes) and (follows is not None or end is not None)
        if watermark_ms < (self.end_ms if complete else self.cut_ms):
            if not (complete and self.domain.horizon_ms == 0):
                return None
        now, status = self.domain.default_reward, "default"
        if outcomes:
            rule = compile_reward(self.game.rewards[self.domain.reward])
            values = [rule.value(o.facts) for o in outcomes]
            now = clip(AGGREGATES[self.domain.aggregate](values))
            status = "observed" if complete else "censored"
        before, after, credit, hit, later = self._delayed()
        total = now + self.domain.long_term_weight * later
        return Settled(
            status,
            now,
            round(later, 9),
            round(total, 9),
            before,
            after,
            None if credit is None else round(credit, 9),
            hit,
            None if follows is None else vector_bytes(follows.observation),
            bool(outcomes and end and end.terminated),
            bool(outcomes and end and end.truncated),
            len(outcomes),
        )

    def _outcomes(self) -> list[Outcome]:
        found: dict[str, Outcome] = {}
        for event in self.later:
            mine = isinstance(event, Outcome) and event.decision_id == self.event.decision_id
            if mine and isinstance(event, Outcome) and event.event_time_ms <= self.cut_ms:
                found.setdefault(event.signal, event)
        return sorted(found.values(), key=lambda o: o.event_time_ms)

    def _follows(self) -> Decision | None:
        for event in self.later:
            if isinstance(event, Decision) and event.episode == self.event.episode:
                return event if event.event_time_ms <= self.cut_ms else None
        return None

    def _standing(self, time_ms: int) -> float | None:
        known = [e for e in self._standings() if e[0] <= time_ms]
        return known[-1][1] if known else None

    def _standings(self) -> list[tuple[int, float]]:
        name = self.domain.standing
        said = [
            (e.event_time_ms, e.facts[name])
            for e in self.mine
            if isinstance(e, Snapshot) and name is not None and name in e.facts
        ]
        return sorted(said, key=lambda said: said[0])

    def _delayed(self) -> tuple[Any, Any, Any, Any, float]:
        domain = self.domain
        if not domain.horizon_ms:
            return None, None, None, None, 0.0
        before, after = self._standing(self.time_ms), self._standing(self.end_ms)
        credit, hit, value = None, None, 0.0
        if domain.credit == "discounted":
            credit = self._credit(before)
            value = credit / domain.standing_unit
        elif before is not None and after is not None:
            value = (after - before) / domain.standing_unit
        if domain.retaliation:
            hit = self._retaliation(domain.retaliation)
            value += domain.retaliation_weight * (hit or 0.0)
        return before, after, credit, hit, clip(value)

    def _decisions(self) -> list[Decision]:
        """Decisions of the actor and domain in event-time order."""
        mine = [e for e in self.mine if isinstance(e, Decision) and e.domain == self.event.domain]
        return sorted(mine, key=lambda d: (d.event_time_ms, d.decision_id))

    def _credit(self, before: float | None) -> float:
        total, known = 0.0, before
        for time_ms, value in self._standings():
            if not self.time_ms < time_ms <= self.end_ms:
                continue
            if known is not None:
                sharers = [
                    d.decision_id
                    for d in self._decisions()
                    if d.event_time_ms < time_ms <= d.event_time_ms + self.domain.horizon_ms
                ][::-1]
                weights = [self.domain.credit_discount**k for k in range(len(sharers))]
                mine = weights[sharers.index(self.event.decision_id)]
                total += (value - known) * mine / sum(weights)
            known = value
        return total

    def _retaliation(self, name: str) -> float | None:
        hits = [
            (e.event_time_ms, e.facts[name])
            for e in self.mine
            if isinstance(e, Snapshot) and e.opponent_id == self.event.opponent_id
            if e.opponent_id is not None and name in e.facts
        ]
        charged = []
        for time_ms, value in sorted(hits):
            against = [
                d
                for d in self._decisions()
                if d.opponent_id == self.event.opponent_id and d.event_time_ms < time_ms
            ]
            last = against[-1].decision_id if against else None
            if last == self.event.decision_id and time_ms <= self.end_ms:
                charged.append(value)
        return sum(charged) if charged else None
