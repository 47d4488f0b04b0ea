"""Experience as a pure fold of one partition of `game-events`.

Every decision yields one experience. It is settled when its outcome is known, what followed is
known, and the watermark has reached decision time + horizon; or by default when the watermark
says that the outcome will not be waited for any longer. Nothing here asks a clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from agents.rewards.formulas import immediate, long_term
from agents.rewards.state import Actor, Cache, Came, Open, States, open_decisions
from schemas.codec import BadEvent, decode_record, raw_event
from schemas.errors import SchemaError, refuse, shown
from schemas.events import (
    ActorEvent,
    Decision,
    EpisodeEnd,
    Event,
    Outcome,
    Tick,
    mask_bytes,
    vector_bytes,
)
from schemas.game import Domain, Game, check_against_game
from schemas.records import (
    MAX_RAW_BYTES,
    DeadLetter,
    Experience,
    Origin,
    Row,
    Status,
    encode_dead_letter,
    encode_rows,
)
from schemas.topics import Topics
from streams.engine.records import Effects, Output, Record

ACTOR_IDLE_MS = 600_000
"""An actor without open decisions is forgotten after so much event time."""
ROWS_PER_RECORD = 48
"""Experiences of 7 KB each stay well under a record's limit."""
_FORGET = ""
"""Stands for a decision id in a timer that forgets an idle actor."""

Timer = tuple[int, str, str]
"""(due by event time, actor id, decision id)"""


class RewardsFold:
    """The rule of one partition; see the module. Timers are a heap, rebuilt from the table."""

    def __init__(
        self,
        partition: int,
        table: Mapping[bytes, bytes],
        games: Mapping[str, Game],
        topics: Topics,
    ) -> None:
        """Take over a partition with its recovered table."""
        self._partition = partition
        self._table = table
        self._games = dict(games)
        self._topics = topics
        self._lateness_ms = max(g.time.allowed_lateness_ms for g in games.values())
        self._standings = {
            name: sorted({d.standing for d in game.domains.values() if d.standing})
            for name, game in games.items()
        }
        self._timers: list[Timer] = []
        self._watched: set[str] = set()  # actors with a timer that forgets them
        self._cache = Cache()
        self._states = States(table, self._cache)
        self._rows: list[Row] = []
        self._letters: list[DeadLetter] = []
        self._place = (0, 0)  # offset in the source, outputs of that record so far
        for actor_id, actor in open_decisions(table):
            for entry in actor.open:
                self._wait(actor_id, entry)
            self._watch(actor_id, actor)
        heapq.heapify(self._timers)

    def fold(self, records: Sequence[Record]) -> Effects:
        """Return the experiences, dead letters and changed states of these records."""
        self._states = States(self._table, self._cache)
        self._rows, self._letters = [], []
        for record in records:
            self._place = (record.offset, 0)
            for index, event in enumerate(decode_record(record.value)):
                self._take(event, record, index)
        return Effects(outputs=self._outputs(), states=self._states.changes())

    @property
    def watermark_ms(self) -> int:
        """The event time before which nothing is waited for."""
        return self._states.ledger.max_time_ms - self._lateness_ms

    # -- one event

    def _take(self, event: Event | BadEvent, record: Record, index: int) -> None:
        if isinstance(event, BadEvent):
            self._refuse(record, index, event.reason, event.path, event.raw)
            return
        limit_ms = record.timestamp + self._lateness_ms
        time_ms = event.event_time_ms
        if time_ms > limit_ms:  # a clock ahead of the log's: flagged, and it moves no watermark
            self._states.ledger.n_skewed += 1
            time_ms = limit_ms
        else:
            self._advance(time_ms)
        if isinstance(event, Tick):
            origin = self._origin()
            self._rows.append(self._states.ledger.watermark_row(origin, self.watermark_ms))
            return
        try:
            self._act(event, time_ms)
        except SchemaError as error:
            raw = raw_event(record.value or b"", index)
            self._refuse(record, index, str(error), error.path, raw)

    def _act(self, event: ActorEvent, time_ms: int) -> None:
        game = check_against_game(event, self._games)
        if isinstance(event, Decision):
            self._decide(event, time_ms, game)
            return
        actor = self._states.actor(event.actor_id)
        actor.last_time_ms = max(actor.last_time_ms, time_ms)
        for name in self._standings[event.game]:
            if event.facts and name in event.facts:
                actor.note_standing(time_ms, name, event.facts[name])
        if not actor.open:
            actor.forget_standings()
            self._watch(event.actor_id, actor)
        if isinstance(event, Outcome):
            self._outcome(event, actor)
        elif isinstance(event, EpisodeEnd):
            self._end(event, actor)

    def _decide(self, event: Decision, time_ms: int, game: Game) -> None:
        actor = self._states.actor(event.actor_id)
        if actor.find(event.decision_id) or actor.settled(event.decision_id) is not None:
            self._states.ledger.n_repeated += 1
            return
        last = actor.last_step(event.episode)
        if last is not None and event.step <= last:
            refuse("$.step", f"over {last}, the last step of the episode", str(event.step))
        actor.last_time_ms = max(actor.last_time_ms, time_ms)
        domain = game.domains[event.domain]
        standing = None
        if domain.standing:
            if event.facts and domain.standing in event.facts:
                actor.note_standing(time_ms, domain.standing, event.facts[domain.standing])
            standing = actor.standing(domain.standing, time_ms)
        actor.note_step(event.episode, event.step)
        before = actor.latest(event.episode)
        entry = Open(event.decision_id, event.game, event.domain, event.episode, time_ms, standing)
        actor.open.append(entry)
        self._states.put_decision(event)
        self._states.ledger.n_decisions += 1
        if before is not None and before.successor is None and before.next_observation is None:
            before.successor = event.decision_id
            self._maybe_settle(event.actor_id, actor, before)
        self._wait(event.actor_id, entry)

    def _outcome(self, event: Outcome, actor: Actor) -> None:
        entry = actor.find(event.decision_id)
        if entry is None:
            had_outcome = actor.settled(event.decision_id)
            if had_outcome is None:
                refuse("$.decision_id", "an open decision of its actor", shown(event.decision_id))
            elif had_outcome:
                self._states.ledger.n_repeated += 1
            else:
                self._states.ledger.n_late += 1
            return
        if entry.outcome is not None:
            self._states.ledger.n_repeated += 1
            return
        entry.outcome = Came(
            event.facts,
            event.success,
            event.terminated or entry.end_terminated,
            event.truncated or entry.end_truncated,
        )
        if event.next_observation is not None and entry.successor is None:
            entry.next_observation = vector_bytes(event.next_observation)
            entry.next_legal = None if event.next_legal is None else mask_bytes(event.next_legal)
        entry.ended = entry.ended or event.terminated or event.truncated
        self._maybe_settle(event.actor_id, actor, entry)

    def _end(self, event: EpisodeEnd, actor: Actor) -> None:
        for entry in [e for e in actor.open if e.episode == event.episode]:
            if entry.successor is None and not entry.ended:
                entry.ended = True
                entry.end_terminated, entry.end_truncated = event.terminated, event.truncated
                if entry.outcome is not None:
                    entry.outcome.terminated = event.terminated
                    entry.outcome.truncated = event.truncated
            self._maybe_settle(event.actor_id, actor, entry)

    # -- settling

    def _due(self, entry: Open) -> int:
        domain = self._domain(entry)
        wait = domain.horizon_ms
        if not entry.complete:
            wait = max(wait, domain.outcome_timeout_ms)
        return entry.time_ms + wait

    def _domain(self, entry: Open) -> Domain:
        return self._games[entry.game].domains[entry.domain]

    def _advance(self, time_ms: int) -> None:
        ledger = self._states.ledger
        if time_ms <= ledger.max_time_ms:
            return
        ledger.max_time_ms = time_ms
        watermark_ms = self.watermark_ms
        while self._timers and self._timers[0][0] <= watermark_ms:
            due, actor_id, decision_id = heapq.heappop(self._timers)
            actor = self._states.actor(actor_id)
            if decision_id == _FORGET:
                self._forget(actor_id, actor, due)
                continue
            entry = actor.find(decision_id)
            if entry is None:
                continue
            if self._due(entry) <= watermark_ms:
                self._settle(actor_id, actor, entry)
            else:
                heapq.heappush(self._timers, (self._due(entry), actor_id, decision_id))

    def _wait(self, actor_id: str, entry: Open) -> None:
        """Set the one timer of an open decision: at its horizon, and on to the time-out from there.

        Most decisions are complete when their horizon comes, so that one timer does.
        """
        domain = self._domain(entry)
        due = entry.time_ms + (domain.horizon_ms or domain.outcome_timeout_ms)
        heapq.heappush(self._timers, (due, actor_id, entry.decision_id))

    def _watch(self, actor_id: str, actor: Actor) -> None:
        """See that an actor without open decisions is forgotten in time: one timer an actor."""
        if not actor.open and actor_id not in self._watched:
            self._watched.add(actor_id)
            heapq.heappush(self._timers, (actor.last_time_ms + ACTOR_IDLE_MS, actor_id, _FORGET))

    def _forget(self, actor_id: str, actor: Actor, due: int) -> None:
        self._watched.discard(actor_id)
        if actor.last_time_ms + ACTOR_IDLE_MS > due:
            self._watch(actor_id, actor)
        elif not actor.open:
            self._states.drop_actor(actor_id)

    def _maybe_settle(self, actor_id: str, actor: Actor, entry: Open) -> None:
        if not entry.complete:
            return
        if not self._domain(entry).horizon_ms or self._due(entry) <= self.watermark_ms:
            self._settle(actor_id, actor, entry)

    def _settle(self, actor_id: str, actor: Actor, entry: Open) -> None:
        self._rows.append(self._experience(actor_id, actor, entry))
        actor.open.remove(entry)
        for other in actor.open:  # one that still waits for its horizon keeps what it needs of this
            if other.successor == entry.decision_id:
                event = self._states.decision(actor_id, entry.decision_id)
                other.next_observation, other.next_legal = _seen(event)
                other.successor = None
        actor.note_settled(entry.decision_id, entry.outcome is not None)
        self._states.drop_decision(actor_id, entry.decision_id)
        self._states.ledger.n_settled += 1
        actor.last_time_ms = max(actor.last_time_ms, self.watermark_ms)
        self._watch(actor_id, actor)

    def _experience(self, actor_id: str, actor: Actor, entry: Open) -> Experience:
        event = self._states.decision(actor_id, entry.decision_id)
        domain = self._domain(entry)
        came = entry.outcome
        now, later, status = self._rewards(actor, entry, domain)
        following = (entry.next_observation, entry.next_legal)
        if entry.successor is not None:
            following = _seen(self._states.decision(actor_id, entry.successor))
        return Experience(
            **_decided(event),
            origin=self._origin(),
            settled_time_ms=self.watermark_ms,
            next_observation=following[0],
            next_legal=following[1],
            terminated=came is not None and came.terminated,
            truncated=came is not None and came.truncated,
            success=None if came is None else came.success,
            outcome_facts=None if came is None else came.facts,
            immediate=now,
            long_term=later,
            total=now + domain.long_term_weight * later,
            reward_version=domain.reward,
            status=status,
        )

    def _rewards(self, actor: Actor, entry: Open, domain: Domain) -> tuple[float, float, Status]:
        now, later = domain.default_reward, 0.0
        status: Status = "default"
        if entry.outcome is not None:
            now = immediate(self._games[entry.game].rewards[domain.reward], entry.outcome.facts)
            status = "observed" if entry.complete else "censored"
        if domain.horizon_ms and domain.standing:
            after = actor.standing(domain.standing, entry.time_ms + domain.horizon_ms)
            later = long_term(domain, entry.standing, after)
        return now, later, status

    # -- outputs

    def _origin(self) -> Origin:
        offset, index = self._place
        self._place = (offset, index + 1)
        return Origin(self._partition, offset, index)

    def _refuse(self, record: Record, index: int, reason: str, path: str, raw: bytes) -> None:
        self._states.ledger.n_dead += 1
        self._letters.append(
            DeadLetter(
                topic=self._topics.game_events,
                partition=record.partition,
                offset=record.offset,
                index=index,
                reason=reason,
                path=path,
                time_ms=record.timestamp,
                raw=raw[:MAX_RAW_BYTES],
                n_bytes=len(raw),
            )
        )

    def _outputs(self) -> list[Output]:
        rows = self._rows
        outputs = [
            Output(self._topics.experiences, encode_rows(rows[i : i + ROWS_PER_RECORD]))
            for i in range(0, len(rows), ROWS_PER_RECORD)
        ]
        key = self._topics.game_events.encode()
        outputs += [
            Output(self._topics.dead_letters, encode_dead_letter(x), key, 0) for x in self._letters
        ]
        return outputs


def _seen(event: Decision) -> tuple[bytes, bytes | None]:
    """Return observation and mask of a decision, also as what followed the one before."""
    return vector_bytes(event.observation), None if event.legal is None else mask_bytes(event.legal)


def _decided(event: Decision) -> dict[str, Any]:
    """Return what an experience takes over from its decision."""
    observation, legal = _seen(event)
    return {
        "decision_id": event.decision_id,
        "game": event.game,
        "world": event.world,
        "episode": event.episode,
        "actor_id": event.actor_id,
        "archetype": event.archetype,
        "domain": event.domain,
        "opponent_id": event.opponent_id,
        "step": event.step,
        "decision_time_ms": event.event_time_ms,
        "observation": observation,
        "legal": legal,
        "action": event.action,
        "propensity": event.propensity,
        "probabilities": None if event.probabilities is None else vector_bytes(event.probabilities),
        "policy_version": event.policy_version,
        "explored": event.explored,
        "facts": event.facts,
    }
