"""Experience as a pure fold of one partition of `game-events`.

Every decision yields one experience. It is settled when its outcome is known, what followed is
known, and the watermark has reached decision time + horizon; or by default when the watermark
says that the outcome will not be waited for any longer. What comes late may revise it, as a new row
behind a retraction of the old one. Nothing here asks a clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.rewards.account import Actor, Open
from agents.rewards.plan import DomainPlan, GamePlan
from agents.rewards.room import make_room, make_room_for
from agents.rewards.rules import CustomRule
from agents.rewards.settling import Settling
from agents.rewards.signals import with_signal
from agents.rewards.state import States
from schemas.codec import BadEvent, decode_record, raw_event
from schemas.errors import SchemaError, refuse, shown
from schemas.events import (
    ActorEvent,
    Decision,
    EpisodeEnd,
    Outcome,
    Snapshot,
    Tick,
    mask_bytes,
    vector_bytes,
)
from schemas.game import check_against_game
from streams.engine.records import Effects, Record


class RewardsFold(Settling):
    """The rule of one partition; see the module.

    All decisions of all games go through here, so it is written for speed: what a description says
    is looked up once (`GamePlan`), and what most events need is not behind a call.
    """

    def fold(self, records: Sequence[Record]) -> Effects:
        """Return the experiences, dead letters and changed states of these records."""
        self._states = States(self._table, self._cache)
        for record in records:
            self._out.at(record)
            self._take(record)
        return Effects(outputs=self._out.take(), states=self._states.changes())

    @property
    def watermark_ms(self) -> int:
        """The event time before which nothing is waited for."""
        return self._watermark_ms

    def _take(self, record: Record) -> None:
        ledger, timers = self._states.ledger, self._timers
        limit_ms = record.timestamp + self._lateness_ms
        for index, event in enumerate(decode_record(record.value)):
            if type(event) is BadEvent:
                self._refuse(index, event.reason, event.path, event.raw)
                continue
            time_ms = event.event_time_ms
            if time_ms > limit_ms:  # a clock ahead of the log's: flagged, it moves no watermark
                ledger.n_skewed += 1
                time_ms = limit_ms
            elif time_ms > ledger.max_time_ms:
                ledger.max_time_ms = time_ms
                self._watermark_ms = watermark_ms = time_ms - self._lateness_ms
                if timers.next_ms <= watermark_ms:
                    self._wake_all(watermark_ms)
            try:
                if type(event) is Decision:
                    self._decide(event, time_ms)
                elif type(event) is Outcome:
                    self._outcome(event, time_ms)
                elif type(event) is Tick:
                    row = ledger.watermark_row(self._out.origin(), self._watermark_ms)
                    self._out.rows.append(row)
                else:
                    self._tell(event, time_ms)
            except SchemaError as error:
                raw = raw_event(record.value or b"", index)
                self._refuse(index, str(error), error.path, raw)

    def _refuse(self, index: int, reason: str, path: str, raw: bytes) -> None:
        self._states.ledger.n_dead += 1
        self._out.refuse(index, reason, path, raw)

    def _note(self, event: ActorEvent, time_ms: int, actor: Actor, plan: GamePlan) -> None:
        """Keep what an event says of its actor's standing, and of what was done to it."""
        if event.facts:
            for name in plan.standings:
                if name in event.facts:
                    actor.note_standing(time_ms, name, event.facts[name])
            if isinstance(event, Snapshot) and event.opponent_id is not None:
                for name in plan.retaliations:
                    if name in event.facts:
                        actor.note_hit((time_ms, event.opponent_id, name, event.facts[name]))
        if not actor.open or actor.is_long:
            actor.forget(self._longest_ms)
            self._watch(event.actor_id, actor)

    # -- a decision

    def _decide(self, event: Decision, time_ms: int) -> None:
        plan = self._plans.get(event.game)
        if plan is None or not plan.takes(event):
            check_against_game(event, self._games)
            plan = self._plans[event.game]
        decision_id, actor_id, episode = event.decision_id, event.actor_id, event.episode
        actor = self._states.actors.get(actor_id) or self._states.actor(actor_id)
        make_room_for(actor, event)
        if decision_id in actor.ids or actor.was_settled(decision_id) is not None:
            self._states.ledger.n_repeated += 1
        else:
            last = actor.last_step(episode)
            if last is not None and event.step <= last:
                refuse("$.step", f"over {last}, the last step of the episode", str(event.step))
            before = actor.latest(episode)
            self._open(event, time_ms, actor, plan)
            if before is not None and before.successor is None and before.next_observation is None:
                self._follow(before, event, time_ms, actor)
        if actor.settled:
            self._revise(event, time_ms, actor)

    def _open(self, event: Decision, time_ms: int, actor: Actor, plan: GamePlan) -> None:
        decision_id, opponent = event.decision_id, event.opponent_id
        entry = Open(time_ms, event.game, event.domain, decision_id, event.episode)
        if opponent is not None:
            entry.opponent = opponent
        actor.add(entry)
        if actor.last_time_ms < time_ms:
            actor.last_time_ms = time_ms
        if self._keeps_history:
            self._note(event, time_ms, actor, plan)
        actor.note_step(event.episode, event.step)
        domain = plan.domains[event.domain]
        if domain.notes_decided:
            actor.note_decided(event.domain, (time_ms, decision_id, opponent))
        named = (event.actor_id, decision_id)
        self._states.put_decision(named, event)
        self._states.ledger.n_decisions += 1
        # The one timer of an open decision: at its horizon, and on to the time-out from there. Most
        # are complete when their horizon comes, so that one timer does.
        self._timers.set(time_ms + domain.opens_ms, named)

    def _follow(self, before: Open, event: Decision, time_ms: int, actor: Actor) -> None:
        """Say what a decision's step led to, if it comes in time."""
        plan = self._domains[before.game][before.domain]
        if time_ms > before.time_ms + plan.cut_off_ms:
            return
        before.successor = event.decision_id
        if before.outcome is None or (actor.settled and actor.find(before.decision_id) is None):
            return
        if not plan.horizon_ms or before.time_ms + plan.horizon_ms <= self._watermark_ms:
            self._settle(actor, before, plan, (event.actor_id, before.decision_id), event)

    # -- an outcome

    def _outcome(self, event: Outcome, time_ms: int) -> None:
        plan = self._plans.get(event.game)
        if plan is None or not plan.takes_outcome(event):
            check_against_game(event, self._games)
            plan = self._plans[event.game]
        actor_id = event.actor_id
        actor = self._states.actors.get(actor_id) or self._states.actor(actor_id)
        make_room(actor, event)
        if actor.last_time_ms < time_ms:
            actor.last_time_ms = time_ms
        if self._keeps_history or not actor.open:
            self._note(event, time_ms, actor, plan)
        opened = actor.find(event.decision_id)
        entry = opened or actor.find_settled(event.decision_id)
        if entry is None:
            self._miss(event, actor)
        elif self._come(event, time_ms, entry) and opened is not None:
            if opened.complete:
                self._settle_in_time(actor_id, actor, opened)
        if actor.settled:
            self._revise(event, time_ms, actor)

    def _miss(self, event: Outcome, actor: Actor) -> None:
        """Count an outcome whose decision is past revision, or refuse that of an unknown one."""
        had_outcome = actor.was_settled(event.decision_id)
        if had_outcome is None:
            refuse("$.decision_id", "an open decision of its actor", shown(event.decision_id))
        elif had_outcome:
            self._states.ledger.n_repeated += 1
        else:
            self._states.ledger.n_late += 1

    def _come(self, event: Outcome, time_ms: int, entry: Open) -> bool:
        """Keep an outcome, unless it is a repeat or late; returns whether it is kept."""
        plan = self._domains[entry.game][entry.domain]
        if entry.outcome is not None and entry.outcome.knows(event.signal):
            self._states.ledger.n_repeated += 1
            return False
        if time_ms > entry.time_ms + plan.cut_off_ms:
            self._states.ledger.n_late += 1
            return False
        if plan.is_custom:
            self._try(event, entry, plan)
        entry.outcome = with_signal(entry, event, time_ms)
        if event.next_observation is not None and entry.successor is None and not entry.followed:
            entry.next_observation = vector_bytes(event.next_observation)
            entry.next_legal = None if event.next_legal is None else mask_bytes(event.next_legal)
        if event.terminated or event.truncated:
            entry.ended = True
        return True

    def _try(self, event: Outcome, entry: Open, plan: DomainPlan) -> None:
        """Refuse facts that a user's function fails on: here, where there is an event to refuse."""
        decision = self._states.decision((event.actor_id, entry.decision_id))
        _, rule = plan.rewards[decision.archetype]
        if isinstance(rule, CustomRule):
            rule.value(event.facts)

    def _settle_in_time(self, actor_id: str, actor: Actor, entry: Open) -> None:
        """Settle a decision that is complete, unless its horizon has not passed."""
        plan = self._domains[entry.game][entry.domain]
        if not plan.horizon_ms or entry.time_ms + plan.horizon_ms <= self._watermark_ms:
            self._settle(actor, entry, plan, (actor_id, entry.decision_id))

    # -- what else is told of an actor

    def _tell(self, event: EpisodeEnd | Snapshot, time_ms: int) -> None:
        check_against_game(event, self._games)
        actor = self._states.actor(event.actor_id)
        make_room(actor, event)
        if actor.last_time_ms < time_ms:
            actor.last_time_ms = time_ms
        self._note(event, time_ms, actor, self._plans[event.game])
        if isinstance(event, EpisodeEnd):
            self._end(event, time_ms, actor)
        if actor.settled:
            self._revise(event, time_ms, actor)

    def _end(self, event: EpisodeEnd, time_ms: int, actor: Actor) -> None:
        opened = [e for e in actor.opened() if e.episode == event.episode]
        for entry in [*opened, *(e for e in actor.settled if e.episode == event.episode)]:
            within = time_ms <= entry.time_ms + self._domains[entry.game][entry.domain].cut_off_ms
            last = entry.successor is None and not entry.followed
            if within and last and not entry.ended:
                entry.ended = True
                entry.end_terminated, entry.end_truncated = event.terminated, event.truncated
                if entry.outcome is not None:
                    entry.outcome.terminated = event.terminated
                    entry.outcome.truncated = event.truncated
        for entry in opened:
            if entry.complete:
                self._settle_in_time(event.actor_id, actor, entry)
