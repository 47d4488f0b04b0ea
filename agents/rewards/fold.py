"""Experience as a pure fold of one partition of `game-events`.

Every decision yields one experience. It is settled when its outcome is known, what followed is
known, and the watermark has reached decision time + horizon; or by default when the watermark
says that the outcome will not be waited for any longer. What comes late may revise it, as a new row
behind a retraction of the old one. Nothing here asks a clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from agents.rewards.account import Actor, Open
from agents.rewards.outbox import Outbox
from agents.rewards.room import make_room
from agents.rewards.rules import CustomRule, Rule, compile_rewards, has_custom
from agents.rewards.settle import concerns, content_digest, cut_off_ms, experience, seen
from agents.rewards.signals import with_signal
from agents.rewards.state import Cache, States
from agents.rewards.timers import (
    ACTOR_IDLE_MS,
    FORGET,
    WAKE,
    closes_after_ms,
    opens_ms,
    rebuild_timers,
)
from schemas.codec import BadEvent, decode_record, raw_event
from schemas.errors import SchemaError, refuse, shown
from schemas.events import (
    ActorEvent,
    Decision,
    EpisodeEnd,
    Event,
    Outcome,
    Snapshot,
    Tick,
    mask_bytes,
    vector_bytes,
)
from schemas.game import Domain, Game, check_against_game
from schemas.records import Experience, Retraction
from schemas.topics import Topics
from streams.engine.records import Effects, Record


class RewardsFold:
    """The rule of one partition; see the module. Timers are a heap, rebuilt from the table."""

    def __init__(
        self,
        partition: int,
        table: Mapping[bytes, bytes],
        games: Mapping[str, Game],
        topics: Topics,
    ) -> None:
        """Take over a partition with its recovered table.

        Raises:
            SchemaError: a game's reward names a formula or function that is not there.
        """
        self._table = table
        self._games = dict(games)
        self._rules = {name: compile_rewards(game) for name, game in games.items()}
        self._has_custom = {name for name, rules in self._rules.items() if has_custom(rules)}
        self._lateness_ms = max(g.time.allowed_lateness_ms for g in games.values())
        self._standings = {
            name: sorted({d.standing for d in game.domains.values() if d.standing})
            for name, game in games.items()
        }
        self._retaliations = {
            name: sorted({d.retaliation for d in game.domains.values() if d.retaliation})
            for name, game in games.items()
        }
        self._longest_ms = max(d.horizon_ms for g in games.values() for d in g.domains.values())
        self._cache = Cache()
        self._states = States(table, self._cache)
        self._watermark_ms = self._states.ledger.max_time_ms - self._lateness_ms
        self._out = Outbox(partition, topics)
        self._timers, self._watched = rebuild_timers(table, self._games)

    def fold(self, records: Sequence[Record]) -> Effects:
        """Return the experiences, dead letters and changed states of these records."""
        self._states = States(self._table, self._cache)
        for record in records:
            self._out.at(record)
            for index, event in enumerate(decode_record(record.value)):
                self._take(event, record, index)
        return Effects(outputs=self._out.take(), states=self._states.changes())

    @property
    def watermark_ms(self) -> int:
        """The event time before which nothing is waited for."""
        return self._watermark_ms

    # -- one event

    def _take(self, event: Event | BadEvent, record: Record, index: int) -> None:
        if isinstance(event, BadEvent):
            self._refuse(index, event.reason, event.path, event.raw)
            return
        limit_ms = record.timestamp + self._lateness_ms
        time_ms = event.event_time_ms
        if time_ms > limit_ms:  # a clock ahead of the log's: flagged, and it moves no watermark
            self._states.ledger.n_skewed += 1
            time_ms = limit_ms
        else:
            self._advance(time_ms)
        if isinstance(event, Tick):
            row = self._states.ledger.watermark_row(self._out.origin(), self._watermark_ms)
            self._out.rows.append(row)
            return
        try:
            self._act(event, time_ms)
        except SchemaError as error:
            raw = raw_event(record.value or b"", index)
            self._refuse(index, str(error), error.path, raw)

    def _refuse(self, index: int, reason: str, path: str, raw: bytes) -> None:
        self._states.ledger.n_dead += 1
        self._out.refuse(index, reason, path, raw)

    def _act(self, event: ActorEvent, time_ms: int) -> None:
        game = check_against_game(event, self._games)
        actor = self._states.actor(event.actor_id)
        make_room(actor, event)
        if isinstance(event, Decision):
            self._decide(event, time_ms, actor, game)
        else:
            self._note(event, time_ms, actor)
            if isinstance(event, Outcome):
                self._outcome(event, time_ms, actor)
            elif isinstance(event, EpisodeEnd):
                self._end(event, time_ms, actor)
        if actor.settled:
            self._revise(event, time_ms, actor)

    def _note(self, event: ActorEvent, time_ms: int, actor: Actor) -> None:
        """Keep what an event says of its actor's standing, and of what was done to it."""
        actor.last_time_ms = max(actor.last_time_ms, time_ms)
        if event.facts:
            for name in self._standings[event.game]:
                if name in event.facts:
                    actor.note_standing(time_ms, name, event.facts[name])
            if isinstance(event, Snapshot) and event.opponent_id is not None:
                for name in self._retaliations[event.game]:
                    if name in event.facts:
                        actor.note_hit((time_ms, event.opponent_id, name, event.facts[name]))
        if not actor.open or actor.is_long:
            actor.forget(self._longest_ms)
            self._watch(event.actor_id, actor)

    def _decide(self, event: Decision, time_ms: int, actor: Actor, game: Game) -> None:
        decision_id = event.decision_id
        if actor.find(decision_id) or actor.was_settled(decision_id) is not None:
            self._states.ledger.n_repeated += 1
            return
        last = actor.last_step(event.episode)
        if last is not None and event.step <= last:
            refuse("$.step", f"over {last}, the last step of the episode", str(event.step))
        before = actor.latest(event.episode)
        domain = game.domains[event.domain]
        entry = Open(
            decision_id,
            event.game,
            event.domain,
            event.episode,
            time_ms,
            opponent=event.opponent_id,
        )
        actor.open.append(entry)
        self._note(event, time_ms, actor)
        actor.note_step(event.episode, event.step)
        if domain.credit == "discounted" or domain.retaliation is not None:
            actor.note_decided(event.domain, (time_ms, decision_id, event.opponent_id))
        self._states.put_decision(event)
        self._states.ledger.n_decisions += 1
        if before is not None and self._follows(before, time_ms):
            before.successor = decision_id
            if actor.find(before.decision_id) is not None:
                self._maybe_settle(event.actor_id, actor, before)
        self._wait(event.actor_id, entry)

    def _follows(self, before: Open, time_ms: int) -> bool:
        """Whether a decision at that time is what a decision's step led to."""
        said = before.successor is not None or before.next_observation is not None
        return not said and time_ms <= cut_off_ms(before, self._domain(before))

    def _outcome(self, event: Outcome, time_ms: int, actor: Actor) -> None:
        ledger = self._states.ledger
        opened = actor.find(event.decision_id)
        entry = opened or actor.find_settled(event.decision_id)
        if entry is None:
            had_outcome = actor.was_settled(event.decision_id)
            if had_outcome is None:
                refuse("$.decision_id", "an open decision of its actor", shown(event.decision_id))
            elif had_outcome:
                ledger.n_repeated += 1
            else:
                ledger.n_late += 1
            return
        if entry.outcome is not None and entry.outcome.knows(event.signal):
            ledger.n_repeated += 1
            return
        if time_ms > cut_off_ms(entry, self._domain(entry)):
            ledger.n_late += 1
            return
        self._try(event, entry)
        entry.outcome = with_signal(entry, event, time_ms)
        last = entry.successor is None and not entry.followed
        if event.next_observation is not None and last:
            entry.next_observation = vector_bytes(event.next_observation)
            entry.next_legal = None if event.next_legal is None else mask_bytes(event.next_legal)
        entry.ended = entry.ended or event.terminated or event.truncated
        if opened is not None:
            self._maybe_settle(event.actor_id, actor, opened)

    def _try(self, event: Outcome, entry: Open) -> None:
        """Refuse facts that a user's function fails on: here, where there is an event to refuse."""
        if entry.game in self._has_custom:
            decision = self._states.decision(event.actor_id, entry.decision_id)
            _, rule = self._reward(decision)
            if isinstance(rule, CustomRule):
                rule.value(event.facts)

    def _end(self, event: EpisodeEnd, time_ms: int, actor: Actor) -> None:
        opened = [e for e in actor.open if e.episode == event.episode]
        for entry in [*opened, *(e for e in actor.settled if e.episode == event.episode)]:
            within = time_ms <= cut_off_ms(entry, self._domain(entry))
            last = entry.successor is None and not entry.followed
            if within and last and not entry.ended:
                entry.ended = True
                entry.end_terminated, entry.end_truncated = event.terminated, event.truncated
                if entry.outcome is not None:
                    entry.outcome.terminated = event.terminated
                    entry.outcome.truncated = event.truncated
        for entry in opened:
            self._maybe_settle(event.actor_id, actor, entry)

    # -- settling

    def _due(self, entry: Open) -> int:
        domain = self._domain(entry)
        return (
            cut_off_ms(entry, domain) if not entry.complete else entry.time_ms + domain.horizon_ms
        )

    def _domain(self, entry: Open) -> Domain:
        return self._games[entry.game].domains[entry.domain]

    def _reward(self, event: Decision) -> tuple[str, Rule]:
        name = self._games[event.game].reward_of(event.domain, event.archetype)
        return name, self._rules[event.game][name]

    def _advance(self, time_ms: int) -> None:
        ledger = self._states.ledger
        if time_ms <= ledger.max_time_ms:
            return
        ledger.max_time_ms = time_ms
        watermark_ms = self._watermark_ms = time_ms - self._lateness_ms
        timers = self._timers
        while timers and timers[0][0] <= watermark_ms:
            due, actor_id, decision_id = heapq.heappop(timers)
            actor = self._states.peek(actor_id)
            if decision_id in (FORGET, WAKE):
                wake = self._forget if decision_id == FORGET else self._wake
                wake(actor_id, actor, due)
                continue
            entry = actor.find(decision_id)
            if entry is None:
                if actor.settled:
                    self._release(actor_id, self._states.actor(actor_id), decision_id, due)
            elif self._due(entry) <= due:
                self._settle(actor_id, self._states.actor(actor_id), entry)
            else:  # even where that is due by now: timers are set anew when a partition is taken
                # over, and the order of what is settled must not depend on that
                heapq.heappush(timers, (self._due(entry), actor_id, decision_id))

    def _wait(self, actor_id: str, entry: Open) -> None:
        """Set the one timer of an open decision: at its horizon, and on to the time-out from there.

        Most decisions are complete when their horizon comes, so that one timer does.
        """
        due = entry.time_ms + opens_ms(self._domain(entry))
        heapq.heappush(self._timers, (due, actor_id, entry.decision_id))

    def _wait_settled(self, actor_id: str, entry: Open) -> None:
        """Set the timer of a settled decision: when it is past revision."""
        heapq.heappush(self._timers, (self._closes(entry), actor_id, entry.decision_id))

    def _closes(self, entry: Open) -> int:
        return entry.time_ms + closes_after_ms(self._domain(entry))

    def _wake(self, actor_id: str, actor: Actor, _due: int) -> None:
        """Set the timers of a recovered account; one that was set since does no harm twice."""
        for entry in actor.open:
            self._wait(actor_id, entry)
        for entry in actor.settled:
            self._wait_settled(actor_id, entry)

    def _release(self, actor_id: str, actor: Actor, decision_id: str, due: int) -> None:
        """Forget a settled decision that nothing revises any more, by its own timer's time."""
        entry = actor.find_settled(decision_id)
        if entry is not None and self._closes(entry) <= due:
            actor.settled.remove(entry)
            self._let_go(actor_id, actor, entry)
            self._watch(actor_id, actor)

    def _watch(self, actor_id: str, actor: Actor) -> None:
        """See that an actor without decisions is forgotten in time: one timer an actor."""
        if not actor.open and not actor.settled and actor_id not in self._watched:
            self._watched.add(actor_id)
            heapq.heappush(self._timers, (actor.last_time_ms + ACTOR_IDLE_MS, actor_id, FORGET))

    def _forget(self, actor_id: str, actor: Actor, due: int) -> None:
        self._watched.discard(actor_id)
        if actor.last_time_ms + ACTOR_IDLE_MS > due:
            self._watch(actor_id, actor)
        elif not actor.open and not actor.settled:
            self._states.drop_actor(actor_id)

    def _maybe_settle(self, actor_id: str, actor: Actor, entry: Open) -> None:
        if not entry.complete:
            return
        if not self._domain(entry).horizon_ms or self._due(entry) <= self._watermark_ms:
            self._settle(actor_id, actor, entry)

    def _settle(self, actor_id: str, actor: Actor, entry: Open) -> None:
        row = self._experience(actor_id, actor, entry)
        self._out.rows.append(row)
        actor.open.remove(entry)
        actor.note_settled(entry.decision_id, entry.outcome is not None)
        if self._domain(entry).revise_within_ms:
            entry.written, entry.total = content_digest(row), row.total
            actor.settled.append(entry)
            self._wait_settled(actor_id, entry)
        else:
            self._let_go(actor_id, actor, entry)
        self._states.ledger.n_settled += 1
        actor.last_time_ms = max(actor.last_time_ms, self._watermark_ms)
        if actor.is_long:
            actor.forget(self._longest_ms)
        self._watch(actor_id, actor)

    def _let_go(self, actor_id: str, actor: Actor, entry: Open) -> None:
        """Drop a decision's event; one that still needs something of it keeps a copy."""
        for other in (*actor.open, *actor.settled):
            if other.successor == entry.decision_id:
                event = self._states.decision(actor_id, entry.decision_id)
                other.next_observation, other.next_legal = seen(event)
                other.next_facts = event.facts
                other.successor, other.followed = None, True
        self._states.drop_decision(actor_id, entry.decision_id)

    def _experience(self, actor_id: str, actor: Actor, entry: Open) -> Experience:
        successor = None
        if entry.successor is not None:
            successor = self._states.decision(actor_id, entry.successor)
        event = self._states.decision(actor_id, entry.decision_id)
        domain, reward = self._domain(entry), self._reward(event)
        origin = self._out.origin()
        return experience(
            actor, entry, event, successor, domain, reward, origin, self._watermark_ms
        )

    def _revise(self, event: ActorEvent, time_ms: int, actor: Actor) -> None:
        """Write anew what an event has changed of settled decisions, behind a retraction."""
        late = time_ms <= self._watermark_ms
        for entry in actor.settled:
            within = time_ms <= cut_off_ms(entry, self._domain(entry))
            if concerns(event, entry) or (late and within):  # a standing before it counts, too
                place = self._out.place
                retracted = self._retraction(event, entry)
                entry.revision += 1
                row = self._experience(event.actor_id, actor, entry)
                digest = content_digest(row)
                if digest == entry.written:
                    entry.revision -= 1
                    self._out.place = place
                    continue
                self._out.rows += [retracted, row]
                entry.written, entry.total = digest, row.total
                self._states.ledger.n_revised += 1

    def _retraction(self, event: ActorEvent, entry: Open) -> Retraction:
        return Retraction(
            decision_id=entry.decision_id,
            revision=entry.revision,
            origin=self._out.origin(),
            game=event.game,
            archetype=self._states.decision(event.actor_id, entry.decision_id).archetype,
            actor_id=event.actor_id,
            total=entry.total,
        )
