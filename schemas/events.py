"""What games say. Every event names its type and version in one tag, e.g. ``decision.v1``.

The tag is required, so a record in the log can never be read as another version than the one it
was written in. A changed layout is a new tag and an upcast step (`schemas.upcast`).
"""

from __future__ import annotations

from typing import Annotated, Literal, final

import msgspec
import numpy as np
from msgspec import Meta

from schemas.limits import (
    MAX_DETAIL_CHARS,
    MAX_EVENT_TIME_MS,
    MAX_FACTS,
    MAX_ID_CHARS,
    MAX_RELATED,
    MAX_TEXT_CHARS,
    MAX_VECTOR,
)

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS)]
TimeMs = Annotated[int, Meta(ge=0, le=MAX_EVENT_TIME_MS)]
Count = Annotated[int, Meta(ge=0)]
Probability = Annotated[float, Meta(gt=0, le=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Facts = Annotated[dict[str, float], Meta(max_length=MAX_FACTS)]
Detail = bool | int | float | Annotated[str, Meta(max_length=MAX_DETAIL_CHARS)]
Details = Annotated[dict[str, Detail], Meta(max_length=MAX_FACTS)]
"""What an analyst may want to know beside the facts; no reward is computed from it."""
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
Numbers = Annotated[list[float], Meta(max_length=MAX_VECTOR)]
Vector = bytes | Numbers
"""Little-endian float32 bytes (base64 in JSON), or a list of numbers; bytes once decoded."""
Mask = bytes | Annotated[list[int], Meta(max_length=MAX_VECTOR)]
"""One uint8 an action, 1 for legal (base64 in JSON), or a list of 0 and 1; bytes once decoded."""


class Language(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """What a language model was asked and said; its presence says that one was used."""

    prompt_type: Id | None = None
    variant_id: Id | None = None
    """Which wording of the prompt, for comparing them."""
    prompt: Text | None = None
    response: Text | None = None
    reasoning: Text | None = None


@final
class Decision(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
    tag_field="type",
    tag="decision.v2",
):
    """One NPC chose one action. Kafka key: ``actor_id``.

    Version 2 says more about the choice: who it concerned, its kind and details, continuous
    parameters, confidence, the arm of an experiment, and what a language model had to do with it.
    """

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
    player_id: Id | None = None
    """The human player it concerns; a pseudonym once it is on the log (`docs/privacy.md`)."""
    related: Annotated[list[Id], Meta(max_length=MAX_RELATED)] | None = None
    """Other decisions that belong to it, e.g. those of the same plan or pack."""
    game_time: float | None = None
    """The game's own clock: a day or a tick."""
    action_type: Id | None = None
    """What kind of action it was, e.g. ``attack``, ``build``, ``trade``, ``move``."""
    details: Details | None = None
    continuous: Vector | None = None
    """Continuous parameters of the action, float32."""
    confidence: Share | None = None
    """How sure the policy said it was."""
    arm: Id | None = None
    """The arm of the experiment that the actor is in."""
    language: Language | None = None


@final
class Outcome(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
    tag_field="type",
    tag="outcome.v3",
):
    """What came of a decision. Kafka key: ``actor_id``.

    Version 1 had one flag, ``done``; version 2 tells an end in the game (``terminated``: nothing
    follows, bootstrap 0) from an end of watching (``truncated``: bootstrap the next observation).
    Version 3 lets a decision have several reward signals, by name.
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
    signal: Annotated[str, Meta(max_length=MAX_ID_CHARS)] = ""
    """Which of a decision's reward signals this is; the same one again is a repeat."""
    details: Details | None = None
    next_facts: Facts | None = None
    """The actor's facts afterwards, named as those of its decisions are."""


class Snapshot(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
    tag_field="type",
    tag="snapshot.v2",
):
    """Facts about an actor at a time, e.g. its standing. Kafka key: ``actor_id``.

    Version 2 can say who did it to the actor. What concerns two actors is told once to each.
    """

    game: Id
    actor_id: Id
    event_time_ms: TimeMs
    facts: Facts
    opponent_id: Id | None = None
    """Who brought it about; a domain may charge it to the decision that provoked that one."""


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


@final
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
