"""The one mapping between `Experience` and the columns of the table ``experiences``.

Every value comes back bit for bit. What PostgreSQL cannot say in a column (a NUL in text, a
negative zero or a huge whole float in jsonb) puts the row's own bytes into ``exact`` besides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
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
"""Columns of the table, in the order in which rows are copied."""

_WIRE = {
    "text": "text",
    "integer": "int8",
    "time": "int8",  # what timestamptz is on the wire: microseconds from 2000
    "float": "float8",
    "bool": "bool",
    "bytes": "bytea",
    "json": "bytea",  # what jsonb is on the wire: text behind a version byte
}
WIRE = [*(_WIRE[column.kind] for column in COLUMNS), "bool", "bytea"]
"""Types of the values as they are sent; the server reads the same bytes as the column's type."""

KEY = ("decision_id", "revision", "decision_time")

_EPOCH_US = 946_684_800_000_000
"""Microseconds from 1970, where ours begin, to 2000, where PostgreSQL's do."""
_JSONB = b"\x01"

_is_language = tuple(column.source.startswith("language.") for column in COLUMNS)
_get = attrgetter(
    *("language" if said else c.source for c, said in zip(COLUMNS, _is_language, strict=True))
)
"""All values of a row in one call; a language's own are put in after it."""
_LANGUAGE = slice(_is_language.index(True), _is_language.index(True) + sum(_is_language))
_get_language = attrgetter(*Language.__struct_fields__)
_TIMES = [i for i, column in enumerate(COLUMNS) if column.kind == "time"]
_JSONS = [i for i, column in enumerate(COLUMNS) if column.kind == "json"]
_TEXTS = [i for i, column in enumerate(COLUMNS) if column.kind == "text"]
_get_texts = itemgetter(*_TEXTS)

_encode_row = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_row = msgspec.msgpack.Decoder(Experience).decode
_encode_json = msgspec.json.encode


def row_values(row: Experience) -> list[Any]:
    """Return a row's values in the order of `NAMES`, as `WIRE` types them."""
    values = list(_get(row))
    if row.language is not None:
        values[_LANGUAGE] = _get_language(row.language)
    values += (row.language is not None, None)
    for i in _TIMES:
        if values[i] is not None:
            values[i] = values[i] * 1000 - _EPOCH_US
    exact = False
    for i in _JSONS:
        value = values[i]
        if value is not None:
            data = _encode_json(value)
            values[i] = _JSONB + data
            exact = exact or b"-0.0" in data or b"\\u0000" in data or _grows(value, data)
    if exact or "\0" in "".join(filter(None, _get_texts(values))):
        _make_sayable(values, row)
    return values


def _grows(value: Any, data: bytes) -> bool:
    """Whether jsonb writes out a float of `details` as the whole number that it is.

    Facts need no such care: they are read back as floats, whatever they look like.
    """
    if b"e" not in data or not isinstance(value, dict):
        return False
    return any(isinstance(v, float) and abs(v) >= 1e15 for v in value.values())


def _make_sayable(values: list[Any], row: Experience) -> None:
    """Keep the row's bytes whole, and put what SQL can read in place of what it cannot."""
    values[-1] = _encode_row(row)
    for i in _TEXTS:
        if values[i] is not None:
            values[i] = values[i].replace("\0", "\ufffd")
    for i in _JSONS:
        if values[i] is not None:
            values[i] = values[i].replace(b"\\u0000", b"\\ufffd")


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
