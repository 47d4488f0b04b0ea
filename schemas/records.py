"""What Grindstone writes: experience, watermarks, windows, dead letters and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec

from schemas.events import Detail, Language
from schemas.limits import MAX_RECORD_BYTES

Status = Literal["observed", "default", "censored", "revised"]
"""How an experience was settled: its outcome came; it did not and the domain's default stands; the
episode went on but what followed was never said; or a later arrival replaced it."""


class Origin(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """Where in `game-events` an output came from; rises strictly within a partition."""

    partition: int
    offset: int
    index: int
    """Counts the outputs of one source record."""


class Place(msgspec.Struct, frozen=True):
    """A place to read on from: an offset of `experiences` and the last row before it."""

    next_offset: int = 0
    last_origin: Origin | None = None


class Signal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One of several reward signals of a decision."""

    name: str
    time_ms: int
    facts: dict[str, float]


class Experience(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    tag_field="type",
    tag="experience.v2",
):
    """One decision by one NPC and what came of it; in the partition of its events.

    Defaults are left out of the bytes; msgspec knows them by identity, so that none may be a float.
    """

    decision_id: str
    revision: int = 0
    """0 as first settled; each later one replaces the one before, which a `Retraction` names."""
    origin: Origin
    game: str
    world: str
    episode: str
    actor_id: str
    archetype: str
    domain: str
    opponent_id: str | None = None
    step: int
    decision_time_ms: int
    settled_time_ms: int
    """The watermark at settlement: event time, not a process's clock."""
    observation: bytes
    """[D] float32, little-endian."""
    legal: bytes | None = None
    """[A] uint8; None means that all actions were legal."""
    action: int
    propensity: float
    probabilities: bytes | None = None
    """[A] float32."""
    policy_version: str
    explored: bool = False
    next_observation: bytes | None = None
    """[D] float32; None after a terminal step and where it was never said."""
    next_legal: bytes | None = None
    terminated: bool = False
    truncated: bool = False
    success: bool | None = None
    facts: dict[str, float] | None = None
    outcome_facts: dict[str, float] | None = None
    """Of the first outcome, by event time."""
    outcome_time_ms: int | None = None
    signals: list[Signal] | None = None
    """Further outcomes of the decision, by event time; None where there was at most one."""
    outcome_details: dict[str, Detail] | None = None
    next_facts: dict[str, float] | None = None
    """The actor's facts after it: said by the outcome, else those of what followed."""
    player_id: str | None = None
    related: list[str] | None = None
    game_time: float | None = None
    action_type: str | None = None
    details: dict[str, Detail] | None = None
    continuous: bytes | None = None
    """Continuous parameters of the action, float32."""
    confidence: float | None = None
    arm: str | None = None
    language: Language | None = None
    standing_before: float | None = None
    """As of the decision."""
    standing_after: float | None = None
    """As of decision time + horizon."""
    credit: float | None = None
    """This decision's part of the standing's change, in standing units; None where not shared."""
    retaliation: float | None = None
    """What the opponent did to the actor within the horizon, summed up; None where nothing was."""
    immediate: float
    """Reward at the outcome, in [-1, 1]."""
    long_term: float
    """Reward of the standing at decision time + horizon, in [-1, 1]; 0 where the horizon is 0."""
    total: float
    reward_version: str
    status: Status


class Retraction(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="retraction.v1"
):
    """An earlier revision of an experience no longer holds; the next one follows at once.

    A reader that adds up rewards takes off what it had of it.
    """

    decision_id: str
    revision: int
    """The one taken back."""
    origin: Origin
    game: str
    archetype: str
    actor_id: str
    total: float
    """What it had said."""


class Watermark(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="watermark.v1"
):
    """The fold's account of a partition when a tick came: event time and the ledger so far."""

    origin: Origin
    watermark_ms: int
    n_decisions: int
    """Distinct decisions accepted since the log's beginning."""
    n_settled: int
    n_open: int
    n_dead: int
    """Dead letters, whatever they were."""
    n_repeated: int = 0
    """Decisions and outcomes that came again and were dropped."""
    n_late: int = 0
    """Outcomes that came after their decision was settled."""
    n_skewed: int = 0
    """Events whose time ran ahead of the log's by more than the allowed lateness."""
    n_revised: int = 0
    """Revisions written."""


Row = Experience | Retraction | Watermark


class RowHead(msgspec.Struct, kw_only=True, gc=False, tag_field="type", tag="experience.v2"):
    """What cutting windows asks of an experience; the rest stays in its bytes."""

    origin: Origin
    game: str
    archetype: str
    settled_time_ms: int
    data: msgspec.Raw = msgspec.field(name="", default=msgspec.Raw())
    """The whole row as it was written."""


T = TypeVar("T")


def decoded(decode: Callable[[Any], T], data: bytes | msgspec.Raw) -> T:
    """Return what is decoded.

    Raises:
        msgspec.MsgspecError: whatever is wrong with the bytes; msgspec itself lets Python's own
            error through where a text is no UTF-8.
    """
    try:
        return decode(data)
    except UnicodeDecodeError as error:
        msg = f"texts must be UTF-8; got {error}"
        raise msgspec.DecodeError(msg) from error


encode_row = msgspec.msgpack.Encoder(order="deterministic").encode
"""Returns the canonical bytes of an `Experience`: what digests are computed over."""
_rows_decode = msgspec.msgpack.Decoder(list[Row]).decode
_heads_decode = msgspec.msgpack.Decoder(list[RowHead | Retraction | Watermark]).decode
_raws_decode = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_rows_encode = msgspec.msgpack.Encoder(order="deterministic").encode
"""Rows travel in the bytes that their digest is computed over, so that readers need not make them
anew."""


def encode_rows(rows: list[Row]) -> bytes:
    """Return rows of one partition as a record of `experiences` (a MessagePack array)."""
    return _rows_encode(rows)


def decode_rows(value: bytes) -> list[Row]:
    """Return the rows of a record of `experiences`.

    Raises:
        msgspec.MsgspecError: the bytes are no rows: not data to skip but a broken log.
    """
    return decoded(_rows_decode, value)


def decode_heads(value: bytes) -> list[RowHead | Retraction | Watermark]:
    """Return what `decode_rows` does, experiences as heads with their bytes.

    Raises:
        msgspec.MsgspecError: the bytes are no rows, as far as heads show.
    """
    rows = decoded(_heads_decode, value)
    for row, data in zip(rows, _raws_decode(value), strict=True):
        if type(row) is RowHead:
            row.data = data
    return rows


class WindowFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a window: path below the archive's root, size and digest of its bytes."""

    path: str
    n_bytes: int
    sha256: str


class WindowRule(msgspec.Struct, frozen=True, kw_only=True):
    """When a window is sealed: after so many rows, or when event time has gone on so far."""

    max_rows: int
    max_span_ms: int


class Window(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="window.v1"):
    """A sealed window of experience. Key: ``game/archetype``; its content never changes."""

    window_id: str
    game: str
    archetype: str
    partition: int
    n_rows: int
    digest: str
    """Over the rows (`schemas.arrow.RowsDigest`), behind its algorithm; of no file format."""
    files: list[WindowFile]
    first_origin: Origin
    last_origin: Origin
    min_time_ms: int
    max_time_ms: int
    """Decision times of its rows."""
    reward_versions: list[str]
    policy_versions: dict[str, int]
    """Rows by behaviour policy."""
    rule: WindowRule


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="dead_letter.v1"):
    """Input that could not be taken. Key: source topic."""

    topic: str
    partition: int
    offset: int
    index: int
    reason: str
    path: str
    time_ms: int
    """Append time of the source record."""
    raw: bytes
    """The original bytes, at most `MAX_RAW_BYTES` of them."""
    n_bytes: int
    """Size of the original."""


MAX_RAW_BYTES = MAX_RECORD_BYTES * 7 // 10
"""A dead letter is a record itself; MessagePack keeps bytes as they are, with room for the rest."""

_dead_encode = msgspec.msgpack.Encoder().encode
_dead_decode = msgspec.msgpack.Decoder(DeadLetter).decode


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """Return a dead letter as a record of `dead-letters` (MessagePack, for raw bytes)."""
    return _dead_encode(letter)


def decode_dead_letter(value: bytes) -> DeadLetter:
    """Return the dead letter of a record."""
    return _dead_decode(value)


class Metric(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="metric.v1"):
    """Numbers a process measured. Key: process."""

    process: str
    time_ms: int
    values: dict[str, float]
    labels: dict[str, str] = {}


_json_encode = msgspec.json.Encoder(order="deterministic").encode
_window_decode = msgspec.json.Decoder(Window).decode
_metric_decode = msgspec.json.Decoder(Metric).decode


def encode_window(window: Window) -> bytes:
    """Return a window as a record of `replay-windows` (JSON, the same bytes each time)."""
    return _json_encode(window)


def decode_window(value: bytes) -> Window:
    """Return the window of a record."""
    return _window_decode(value)


def encode_metric(metric: Metric) -> bytes:
    """Return a metric as a record of `metrics` (JSON)."""
    return _json_encode(metric)


def decode_metric(value: bytes) -> Metric:
    """Return the metric of a record."""
    return _metric_decode(value)
