"""What becomes of decisions that are open: they are settled, revised, and let go in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agents.rewards.account import Actor, Open
from agents.rewards.outbox import Outbox
from agents.rewards.plan import DomainPlan, plan_game
from agents.rewards.settle import concerns, content_digest, experience, seen
from agents.rewards.state import Cache, Named, States, check_form
from agents.rewards.timers import ACTOR_IDLE_MS, FORGET, WAKE, rebuild_timers
from schemas.events import ActorEvent, Decision
from schemas.game import Game
from schemas.records import Retraction
from schemas.topics import Topics


class Settling:
    """The half of the rewards fold that an event brings about in what was there before it."""

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
            EngineError: another version of the fold wrote the table.
        """
        self._table = table
        self._games = dict(games)
        self._plans = {name: plan_game(game) for name, game in games.items()}
        self._domains = {name: plan.domains for name, plan in self._plans.items()}
        self._keeps_history = any(plan.keeps_history for plan in self._plans.values())
        self._lateness_ms = max(g.time.allowed_lateness_ms for g in games.values())
        self._longest_ms = max(d.horizon_ms for g in games.values() for d in g.domains.values())
        self._cache = Cache()
        self._states = States(table, self._cache)
        check_form(partition, self._states.ledger)
        self._watermark_ms = self._states.ledger.max_time_ms - self._lateness_ms
        self._out = Outbox(partition, topics)
        self._timers, self._watched = rebuild_timers(table, self._plans)

    def _settle(
        self,
        actor: Actor,
        entry: Open,
        plan: DomainPlan,
        named: Named,
        successor: Decision | None = None,
    ) -> None:
        """Write what came of an open decision; `successor` is the one after it, if at hand."""
        states, out = self._states, self._out
        event = states.decision(named)
        if successor is None and entry.successor is not None:
            successor = states.decision((named[0], entry.successor))
        watermark_ms = self._watermark_ms
        row = experience(actor, entry, event, successor, plan, out.origin(), watermark_ms)
        out.rows.append(row)
        older = actor.remove(entry)
        actor.note_settled(entry.decision_id, entry.outcome is not None)
        self._timers.cancel(entry.time_ms + plan.opens_ms, named)
        if plan.revises:
            entry.written, entry.total = content_digest(row), row.total
            actor.settled.append(entry)
            self._timers.set(entry.time_ms + plan.closes_ms, named)
        else:
            self._let_go(named, older, actor.settled)
        states.ledger.n_settled += 1
        if actor.last_time_ms < watermark_ms:
            actor.last_time_ms = watermark_ms
        if self._keeps_history and actor.is_long:
            actor.forget(self._longest_ms)
        if not actor.open:
            self._watch(named[0], actor)

    def _let_go(self, named: Named, *may_need: Sequence[Open]) -> None:
        """Drop a decision's event; one that still needs something of it keeps a copy."""
        decision_id = named[1]
        for entries in may_need:
            for entry in entries:
                if entry.successor == decision_id:
                    event = self._states.decision(named)
                    entry.next_observation, entry.next_legal = seen(event)
                    entry.next_facts = event.facts
                    entry.successor, entry.followed = None, True
        self._states.drop_decision(named)

    # -- what time brings about

    def _wake_all(self, watermark_ms: int) -> None:
        """Look at what is due by the watermark."""
        timers, states = self._timers, self._states
        while timers.next_ms <= watermark_ms:
            due = timers.next_ms
            named = timers.pop()
            if named is None:
                continue
            actor_id, decision_id = named
            if decision_id == FORGET:
                self._forget(actor_id, states.peek(actor_id), due)
            elif decision_id == WAKE:
                self._wake(actor_id, states.peek(actor_id))
            elif states.may_hold(named):
                self._look(named, due)

    def _look(self, named: Named, due: int) -> None:
        """Settle a decision, or forget one that nothing revises any more, by its timer's time."""
        actor_id, decision_id = named
        actor = self._states.peek(actor_id)
        entry = actor.find(decision_id)
        if entry is not None:
            plan = self._domains[entry.game][entry.domain]
            wait_ms = plan.horizon_ms if entry.complete else plan.cut_off_ms
            if entry.time_ms + wait_ms <= due:
                self._settle(self._states.actor(actor_id), entry, plan, named)
            else:  # even where that is due by now: timers are set anew when a partition is taken
                # over, and the order of what is settled must not depend on that
                self._timers.set(entry.time_ms + wait_ms, named)
        elif actor.settled:
            self._release(self._states.actor(actor_id), named, due)

    def _release(self, actor: Actor, named: Named, due: int) -> None:
        """Forget a settled decision that nothing revises any more, by its own timer's time."""
        entry = actor.find_settled(named[1])
        if entry is not None:
            plan = self._domains[entry.game][entry.domain]
            if entry.time_ms + plan.closes_ms <= due:
                actor.settled.remove(entry)
                self._let_go(named, actor.opened(), actor.settled)
                self._watch(named[0], actor)

    def _wake(self, actor_id: str, actor: Actor) -> None:
        """Set the timers of a recovered account; one that was set since does no harm twice."""
        for entries, is_open in ((actor.opened(), True), (actor.settled, False)):
            for entry in entries:
                plan = self._domains[entry.game][entry.domain]
                wait_ms = plan.opens_ms if is_open else plan.closes_ms
                self._timers.set(entry.time_ms + wait_ms, (actor_id, entry.decision_id))

    def _watch(self, actor_id: str, actor: Actor) -> None:
        """See that an actor without decisions is forgotten in time: one timer an actor."""
        if not actor.open and not actor.settled and actor_id not in self._watched:
            self._watched.add(actor_id)
            self._timers.set(actor.last_time_ms + ACTOR_IDLE_MS, (actor_id, FORGET))

    def _forget(self, actor_id: str, actor: Actor, due: int) -> None:
        self._watched.discard(actor_id)
        if actor.last_time_ms + ACTOR_IDLE_MS > due:
            self._watch(actor_id, actor)
        elif not actor.open and not actor.settled:
            self._states.drop_actor(actor_id)

    # -- what comes late

    def _revise(self, event: ActorEvent, time_ms: int, actor: Actor) -> None:
        """Write anew what an event has changed of settled decisions, behind a retraction."""
        late = time_ms <= self._watermark_ms
        for entry in actor.settled:
            plan = self._domains[entry.game][entry.domain]
            within = time_ms <= entry.time_ms + plan.cut_off_ms
            if concerns(event, entry) or (late and within):  # a standing before it counts, too
                self._write_anew(event, actor, entry, plan)

    def _write_anew(self, event: ActorEvent, actor: Actor, entry: Open, plan: DomainPlan) -> None:
        states, out = self._states, self._out
        index = out.index
        decision = states.decision((event.actor_id, entry.decision_id))
        successor = None
        if entry.successor is not None:
            successor = states.decision((event.actor_id, entry.successor))
        retracted = Retraction(
            decision_id=entry.decision_id,
            revision=entry.revision,
            origin=out.origin(),
            game=event.game,
            archetype=decision.archetype,
            actor_id=event.actor_id,
            total=entry.total,
        )
        entry.revision += 1
        row = experience(actor, entry, decision, successor, plan, out.origin(), self._watermark_ms)
        digest = content_digest(row)
        if digest == entry.written:
            entry.revision -= 1
            out.index = index
            return
        out.rows += [retracted, row]
        entry.written, entry.total = digest, row.total
        states.ledger.n_revised += 1
