"""The one mapping between `Experience` and the columns of the table ``experiences``.

Every value comes back bit for bit. What PostgreSQL cannot say in a column (a NUL in text, a
negative zero or a huge whole float in jsonb) puts the row's own bytes into ``exact`` besides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from schemas.events import Detail, Language
from schemas.records import Experience, Origin, Signal

Kind = Literal["text", "integer", "time", "float", "bool", "bytes", "json"]


class Column(msgspec.Struct, frozen=True):
    """A column and the value that fills it."""

    name: str
    kind: Kind
    source: str
    """Path of the value in an `Experience`; below ``language`` where that is not None."""


def _same(kind: Kind, *names: str) -> list[Column]:
    return [Column(name, kind, name) for name in names]


def _below(kind: Kind, above: str, *names: str) -> list[Column]:
    return [Column(f"{above}_{name}", kind, f"{above}.{name}") for name in names]


COLUMNS: tuple[Column, ...] = (
    *_same("text", "decision_id"),
    *_same("integer", "revision"),
    *_below("integer", "origin", "partition", "offset", "index"),
    *_same("text", "game", "world", "episode", "actor_id", "archetype", "domain", "opponent_id"),
    *_same("integer", "step"),
    Column("decision_time", "time", "decision_time_ms"),
    Column("settled_time", "time", "settled_time_ms"),
    *_same("bytes", "observation", "legal"),
    *_same("integer", "action"),
    *_same("float", "propensity"),
    *_same("bytes", "probabilities"),
    *_same("text", "policy_version"),
    *_same("bool", "explored"),
    *_same("bytes", "next_observation", "next_legal"),
    *_same("bool", "terminated", "truncated", "success"),
    *_same("json", "facts", "outcome_facts"),
    Column("outcome_time", "time", "outcome_time_ms"),
    *_same("json", "signals", "outcome_details", "next_facts"),
    *_same("text", "player_id"),
    *_same("json", "related"),
    *_same("float", "game_time"),
    *_same("text", "action_type"),
    *_same("json", "details"),
    *_same("bytes", "continuous"),
    *_same("float", "confidence"),
    *_same("text", "arm"),
    *_below("text", "language", *Language.__struct_fields__),
    *_same("float", "standing_before", "standing_after", "credit", "retaliation"),
    *_same("float", "immediate", "long_term", "total"),
    *_same("text", "reward_version", "status"),
)
LANGUAGE_USED = "language_used"
EXACT = "exact"
NAMES = (*(column.name for column in COLUMNS), LANGUAGE_USED, EXACT)
"""Columns of the table, in the order in which rows are copied (`streams.timescale.wire`)."""

KEY = ("decision_id", "revision", "decision_time")

_decode_row = msgspec.msgpack.Decoder(Experience).decode


_READ = {
    # exact: numbers of unlimited digits, where a time of another type would be rounded
    "time": "(extract(epoch FROM {0}) * 1000)::bigint",
    "json": "{0}::text",
}
SELECT = ", ".join(
    [*(_READ.get(c.kind, "{0}").format(c.name) for c in COLUMNS), LANGUAGE_USED, EXACT]
)
"""What to select, from a table or view with the columns, for `row_of`."""

_facts = msgspec.json.Decoder(dict[str, float]).decode
_details = msgspec.json.Decoder(dict[str, Detail]).decode
_LOAD: dict[str, Callable[[str], Any]] = {
    "facts": _facts,
    "outcome_facts": _facts,
    "next_facts": _facts,
    "details": _details,
    "outcome_details": _details,
    "related": msgspec.json.Decoder(list[str]).decode,
    "signals": msgspec.json.Decoder(list[Signal]).decode,
}


def row_of(values: Sequence[Any]) -> Experience:
    """Return the row that was stored, from what `SELECT` gives."""
    *given, used, exact = values
    if exact is not None:
        return _decode_row(exact)
    fields: dict[str, Any] = {}
    origin: list[int] = []
    said: dict[str, Any] = {}
    for column, value in zip(COLUMNS, given, strict=True):
        above, _, name = column.source.partition(".")
        if above == "origin":
            origin.append(value)
        elif above == "language":
            said[name] = value
        elif column.kind == "json" and value is not None:
            fields[above] = _LOAD[above](value)
        else:
            fields[above] = value
    fields["origin"] = Origin(*origin)
    fields["language"] = Language(**said) if used else None
    return Experience(**fields)
