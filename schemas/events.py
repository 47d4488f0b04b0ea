"""What games say. Every event names its type and version in one tag, e.g. ``decision.v1``.

The tag is required, so a record in the log can never be read as another version than the one it
was written in. A changed layout is a new tag and an upcast step (`schemas.upcast`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from schemas.limits import MAX_EVENT_TIME_MS, MAX_FACTS, MAX_ID_CHARS, MAX_VECTOR

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS)]
TimeMs = Annotated[int, Meta(ge=0, le=MAX_EVENT_TIME_MS)]
Count = Annotated[int, Meta(ge=0)]
Probability = Annotated[float, Meta(gt=0, le=1)]
Facts = Annotated[dict[str, float], Meta(max_length=MAX_FACTS)]
Numbers = Annotated[list[float], Meta(max_length=MAX_VECTOR)]
Vector = bytes | Numbers
"""Little-endian float32 bytes (base64 in JSON), or a list of numbers; bytes once decoded."""
Mask = bytes | Annotated[list[int], Meta(max_length=MAX_VECTOR)]
"""One uint8 an action, 1 for legal (base64 in JSON), or a list of 0 and 1; bytes once decoded."""


class Decision(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="type",
    tag="decision.v1",
):
    """One NPC chose one action. Kafka key: ``actor_id``."""

    decision_id: Id
    game: Id
    world: Id
    episode: Id
    actor_id: Id
    archetype: Id
    domain: Id
    event_time_ms: TimeMs
    """When the decision was taken, UTC milliseconds."""
    step: Count
    """Decisions of this actor in this episode before this one."""
    observation: Vector
    """What the policy saw, float32 in the game's declared layout, flat."""
    action: Count
    propensity: Probability
    """P(action | observation) under the behaviour policy, in (0, 1]."""
    policy_version: Id
    explored: bool = False
    """Whether exploration overruled the policy's own choice."""
    legal: Mask | None = None
    """Legal actions; None means that all are."""
    probabilities: Vector | None = None
    """The whole behaviour distribution over actions, float32."""
    opponent_id: Id | None = None
    facts: Facts | None = None


class Outcome(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="type",
    tag="outcome.v2",
):
    """What came of a decision. Kafka key: ``actor_id``.

    Version 1 had one flag, ``done``; version 2 tells an end in the game (``terminated``: nothing
    follows, bootstrap 0) from an end of watching (``truncated``: bootstrap the next observation).
    """

    decision_id: Id
    game: Id
    actor_id: Id
    event_time_ms: TimeMs
    facts: Facts
    """What the rewards are computed from, by name."""
    success: bool | None = None
    """Observed success; None while unknown, never False by default."""
    terminated: bool = False
    truncated: bool = False
    next_observation: Vector | None = None
    """Given at an episode's end or by games that know it; else the actor's next decision has it."""
    next_legal: Mask | None = None


class Snapshot(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="type",
    tag="snapshot.v1",
):
    """Facts about an actor at a time, e.g. its standing. Kafka key: ``actor_id``."""

    game: Id
    actor_id: Id
    event_time_ms: TimeMs
    facts: Facts


class EpisodeEnd(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="type",
    tag="episode_end.v1",
):
    """An episode of one actor is over. Kafka key: ``actor_id``."""

    game: Id
    world: Id
    episode: Id
    actor_id: Id
    event_time_ms: TimeMs
    terminated: bool
    truncated: bool
    result: Literal["won", "lost", "draw"] | None = None
    facts: Facts | None = None


class Tick(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="type",
    tag="tick.v1",
):
    """Event time goes on, even where nobody acts. One in every partition."""

    event_time_ms: TimeMs
    source: Id


Event = Decision | Outcome | Snapshot | EpisodeEnd | Tick
ActorEvent = Decision | Outcome | Snapshot | EpisodeEnd
"""Events that are keyed by an actor."""


def vector_bytes(values: Vector) -> bytes:
    """Return a vector as little-endian float32 bytes, whichever form it came in."""
    return values if isinstance(values, bytes) else np.asarray(values, "<f4").tobytes()


def mask_bytes(values: Mask) -> bytes:
    """Return a mask as one uint8 an action.

    Raises:
        ValueError: a listed value is neither 0 nor 1.
    """
    if isinstance(values, bytes):
        return values
    if any(v not in (0, 1) for v in values):
        msg = "a mask holds 0 and 1 only"
        raise ValueError(msg)
    return bytes(values)
