"""The life of a model version, as events on `models` (key: model name)."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.records import Origin, WindowFile


class Registered(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="registered.v1"):
    """A learner made a version: a candidate, with all that is needed to make it again."""

    model: str
    version: str
    time_ms: int
    game: str
    archetype: str
    algorithm: str
    folder: str
    """Below the models folder."""
    files: list[WindowFile]
    source_offsets: dict[str, tuple[int, int]]
    """`game-events` partition -> first and last offset of the experience it learned from."""
    n_windows: int
    last_window: str
    n_rows: int
    n_updates: int
    reward_versions: list[str]
    seed: int
    settings: dict[str, float | int | str | bool | list[int]]
    settings_digest: str
    code_version: str
    metrics: dict[str, float]


class MatchUp(msgspec.Struct, frozen=True, kw_only=True):
    """Matches of one policy against another on paired seeds (each seed played on both sides)."""

    stage: Literal["gate", "confirm"]
    subject: str
    opponent: str
    seeds: str
    """The label the seeds are derived from; equal labels are equal seeds."""
    n: int
    wins: int
    draws: int
    losses: int
    outcomes: str
    """One of W, D, L a match in seed order, both sides of a seed side by side."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="evaluation.v1"):
    """The evaluator played a candidate."""

    model: str
    version: str
    time_ms: int
    game: str
    matches: list[MatchUp]
    champion: str | None
    """The champion it was compared with; None when there was none."""
    latency_p95_ms: float
    """Of one decision through the serving path."""
    error: str | None = None
    """Why it could not be played, e.g. a digest that does not match."""


class Champion(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="champion.v1"):
    """The release fold made a version the one that games play."""

    model: str
    version: str
    time_ms: int
    origin: Origin
    """The evaluation's place on `models`."""
    previous: str | None
    reasons: list[str]
    folder: str
    files: list[WindowFile]
    win_rate: float
    lower95: float
    n: int


class Rejected(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="rejected.v1"):
    """The release fold refused a version."""

    model: str
    version: str
    time_ms: int
    origin: Origin
    reasons: list[str]
    win_rate: float
    lower95: float
    n: int


ModelEvent = Registered | Evaluation | Champion | Rejected

_decode = msgspec.json.Decoder(ModelEvent).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def encode_model_event(event: ModelEvent) -> bytes:
    """Return a model event as a record of `models` (JSON, the same bytes each time)."""
    return _encode(event)


def decode_model_event(value: bytes) -> ModelEvent:
    """Return the model event of a record.

    Raises:
        msgspec.MsgspecError: the bytes are no model event.
    """
    event: ModelEvent = _decode(value)
    return event
