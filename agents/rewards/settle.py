"""The experience that follows from an actor's account: a pure function of it and two events."""

from __future__ import annotations

import hashlib
from operator import attrgetter
from typing import Any

import msgspec

from agents.rewards.account import Actor, Came, Open
from agents.rewards.delayed import NOTHING, delayed
from agents.rewards.facts import clip
from agents.rewards.rules import Rule
from agents.rewards.signals import aggregate
from schemas.events import (
    ActorEvent,
    Decision,
    Outcome,
    Snapshot,
    mask_bytes,
    vector_bytes,
)
from schemas.game import Domain
from schemas.records import Experience, Origin, Status


def cut_off_ms(entry: Open, domain: Domain) -> int:
    """Return the event time after which nothing counts for a decision any more."""
    return entry.time_ms + max(domain.horizon_ms, domain.outcome_timeout_ms)


def seen(event: Decision) -> tuple[bytes, bytes | None]:
    """Return observation and mask of a decision, also as what followed the one before."""
    return vector_bytes(event.observation), None if event.legal is None else mask_bytes(event.legal)


def experience(
    actor: Actor,
    entry: Open,
    event: Decision,
    successor: Decision | None,
    domain: Domain,
    reward: tuple[str, Rule],
    origin: Origin,
    settled_time_ms: int,
) -> Experience:
    """Return what came of a decision, as far as its actor's account knows it.

    Args:
        actor: the account that the decision is in.
        entry: the decision there.
        event: the decision itself.
        successor: the actor's next decision, where the account says that there is one.
        domain: its domain.
        reward: the name and the rule of its reward.
        origin: of the row.
        settled_time_ms: the watermark.
    """
    now, status = _immediate(entry, domain, reward[1])
    later = delayed(actor, entry, domain) if domain.horizon_ms else NOTHING
    following, facts = (entry.next_observation, entry.next_legal), entry.next_facts
    if successor is not None:
        following, facts = seen(successor), successor.facts
    return Experience(
        **_decided(event),
        **_came(entry.outcome, facts),
        origin=origin,
        revision=entry.revision,
        settled_time_ms=settled_time_ms,
        next_observation=following[0],
        next_legal=following[1],
        standing_before=later.before,
        standing_after=later.after,
        credit=later.credit,
        retaliation=later.retaliation,
        immediate=now,
        long_term=later.value,
        total=now + domain.long_term_weight * later.value,
        reward_version=reward[0],
        status="revised" if entry.revision else status,
    )


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_NOWHERE = Origin(0, 0, 0)


def content_digest(row: Experience) -> bytes:
    """Return a digest of what an experience says, its place, revision and status apart."""
    content = msgspec.structs.replace(
        row, origin=_NOWHERE, revision=0, settled_time_ms=0, status="observed"
    )
    return hashlib.blake2b(_encode(content), digest_size=8).digest()


def _immediate(entry: Open, domain: Domain, rule: Rule) -> tuple[float, Status]:
    came = entry.outcome
    if came is None:
        return domain.default_reward, "default"
    value = rule.value(came.facts)
    if came.more:
        signals = [(came.time_ms, value)]
        signals += [(s.time_ms, rule.value(s.facts)) for s in came.more]
        value = clip(aggregate(domain.aggregate, signals))
    return value, "observed" if entry.complete else "censored"


def _came(came: Came | None, next_facts: dict[str, float] | None) -> dict[str, Any]:
    """Return what an experience takes over from its outcome."""
    if came is None:
        return {"next_facts": next_facts}
    return {
        "terminated": came.terminated,
        "truncated": came.truncated,
        "success": came.success,
        "outcome_facts": came.facts,
        "outcome_time_ms": came.time_ms,
        "outcome_details": came.details,
        "signals": came.more,
        "next_facts": next_facts if came.next_facts is None else came.next_facts,
    }


_SAME = (
    "decision_id", "game", "world", "episode", "actor_id", "archetype", "domain", "opponent_id",
    "step", "action", "propensity", "policy_version", "explored", "facts", "player_id", "related",
    "game_time", "action_type", "details", "confidence", "arm", "language",
)  # fmt: skip
"""What an experience takes over from its decision as it is."""
_same = attrgetter(*_SAME)


def _decided(event: Decision) -> dict[str, Any]:
    """Return what an experience takes over from its decision."""
    fields: dict[str, Any] = dict(zip(_SAME, _same(event), strict=True))
    fields["decision_time_ms"] = event.event_time_ms
    fields["observation"], fields["legal"] = seen(event)
    if event.probabilities is not None:
        fields["probabilities"] = vector_bytes(event.probabilities)
    if event.continuous is not None:
        fields["continuous"] = vector_bytes(event.continuous)
    return fields


def concerns(event: ActorEvent, entry: Open) -> bool:
    """Return whether an event that is not late may say something of a settled decision."""
    if isinstance(event, Outcome):
        return event.decision_id == entry.decision_id
    return not isinstance(event, Snapshot) and event.episode == entry.episode
