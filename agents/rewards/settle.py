"""The experience that follows from an actor's account: a pure function of it and two events."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from agents.rewards.account import Actor, Came, Open
from agents.rewards.delayed import NOTHING, delayed
from agents.rewards.facts import clip
from agents.rewards.plan import DomainPlan
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


def seen(event: Decision) -> tuple[bytes, bytes | None]:
    """Return observation and mask of a decision, also as what followed the one before."""
    return vector_bytes(event.observation), None if event.legal is None else mask_bytes(event.legal)


_NEVER = object()
_written: Any = msgspec.defstruct(
    "Written",
    [
        (field.name, field.type, _NEVER if field.required else field.default)
        for field in msgspec.structs.fields(Experience)
    ],
    frozen=True,
    omit_defaults=True,
    gc=False,
    tag_field="type",
    tag="experience.v2",
)
"""An experience whose fields are given by position: with 49 of them names cost five times as much.
Its bytes are those of an `Experience`."""


def experience(
    actor: Actor,
    entry: Open,
    event: Decision,
    successor: Decision | None,
    plan: DomainPlan,
    origin: Origin,
    settled_time_ms: int,
) -> Experience:
    """Return what came of a decision, as far as its actor's account knows it.

    Args:
        actor: the account that the decision is in.
        entry: the decision there.
        event: the decision itself.
        successor: the actor's next decision, where the account says that there is one.
        plan: of its domain.
        origin: of the row.
        settled_time_ms: the watermark.
    """
    reward_version, rule = plan.rewards[event.archetype]
    came = entry.outcome or _NOTHING_CAME
    now, status = _immediate(entry, plan.domain, rule)
    later = delayed(actor, entry, plan.domain) if plan.horizon_ms else NOTHING
    next_observation: Any
    next_legal: Any  # bytes, as all vectors and masks that were decoded
    if successor is None:
        next_observation, next_legal, facts = (
            entry.next_observation,
            entry.next_legal,
            entry.next_facts,
        )
    else:
        next_observation, next_legal = successor.observation, successor.legal
        facts = successor.facts
    row: Experience = _written(
        event.decision_id,
        entry.revision,
        origin,
        event.game,
        event.world,
        event.episode,
        event.actor_id,
        event.archetype,
        event.domain,
        event.opponent_id,
        event.step,
        event.event_time_ms,
        settled_time_ms,
        event.observation,
        event.legal,
        event.action,
        event.propensity,
        event.probabilities,
        event.policy_version,
        event.explored,
        next_observation,
        next_legal,
        came.terminated,
        came.truncated,
        came.success,
        event.facts,
        None if entry.outcome is None else came.facts,
        None if entry.outcome is None else came.time_ms,
        came.more,
        came.details,
        facts if came.next_facts is None else came.next_facts,
        event.player_id,
        event.related,
        event.game_time,
        event.action_type,
        event.details,
        event.continuous,
        event.confidence,
        event.arm,
        event.language,
        later.before,
        later.after,
        later.credit,
        later.retaliation,
        now,
        later.value,
        now + plan.domain.long_term_weight * later.value,
        reward_version,
        "revised" if entry.revision else status,
    )
    return row


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_NOWHERE = Origin(0, 0, 0)
_NOTHING_CAME = Came(0, "", {}, None, False, False)


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
    return value, "observed" if entry.successor is not None or entry.complete else "censored"


def concerns(event: ActorEvent, entry: Open) -> bool:
    """Return whether an event that is not late may say something of a settled decision."""
    if isinstance(event, Outcome):
        return event.decision_id == entry.decision_id
    return not isinstance(event, Snapshot) and event.episode == entry.episode
