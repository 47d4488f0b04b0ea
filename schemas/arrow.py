"""Experience as Arrow columns, and the digest of rows that no file format changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from schemas.records import Experience, Origin

_encode_row = msgspec.msgpack.Encoder(order="deterministic").encode


class RowsDigest:
    """BLAKE2b-128 over rows in order; each row is its MessagePack bytes behind their length."""

    def __init__(self) -> None:
        """Begin with no rows."""
        self._hash = hashlib.blake2b(digest_size=16)
        self.n_rows = 0

    def add(self, row: Experience) -> None:
        """Take the next row."""
        data = _encode_row(row)
        self._hash.update(len(data).to_bytes(4, "little"))
        self._hash.update(data)
        self.n_rows += 1

    def hexdigest(self) -> str:
        """Return the digest of the rows so far."""
        return self._hash.hexdigest()


def rows_digest(rows: Iterable[Experience]) -> str:
    """Return the digest of rows, hex."""
    digest = RowsDigest()
    for row in rows:
        digest.add(row)
    return digest.hexdigest()


_FACTS = pa.map_(pa.string(), pa.float64())


def experience_schema(n_observation: int, n_actions: int) -> pa.Schema:
    """Return the columns of a window: ``n_observation`` floats, ``n_actions`` actions.

    Vectors are fixed-size binary (float32 little-endian, masks uint8): they load without parsing.
    """
    observation, mask = pa.binary(4 * n_observation), pa.binary(n_actions)
    return pa.schema(
        [
            pa.field("decision_id", pa.string(), nullable=False),
            pa.field("revision", pa.int32(), nullable=False),
            pa.field("origin_partition", pa.int32(), nullable=False),
            pa.field("origin_offset", pa.int64(), nullable=False),
            pa.field("origin_index", pa.int32(), nullable=False),
            pa.field("game", pa.string(), nullable=False),
            pa.field("world", pa.string(), nullable=False),
            pa.field("episode", pa.string(), nullable=False),
            pa.field("actor_id", pa.string(), nullable=False),
            pa.field("archetype", pa.string(), nullable=False),
            pa.field("domain", pa.string(), nullable=False),
            pa.field("opponent_id", pa.string()),
            pa.field("step", pa.int64(), nullable=False),
            pa.field("decision_time_ms", pa.int64(), nullable=False),
            pa.field("settled_time_ms", pa.int64(), nullable=False),
            pa.field("observation", observation, nullable=False),
            pa.field("legal", mask),
            pa.field("action", pa.int32(), nullable=False),
            pa.field("propensity", pa.float64(), nullable=False),
            pa.field("probabilities", pa.binary(4 * n_actions)),
            pa.field("policy_version", pa.string(), nullable=False),
            pa.field("explored", pa.bool_(), nullable=False),
            pa.field("next_observation", observation),
            pa.field("next_legal", mask),
            pa.field("terminated", pa.bool_(), nullable=False),
            pa.field("truncated", pa.bool_(), nullable=False),
            pa.field("success", pa.bool_()),
            pa.field("facts", _FACTS),
            pa.field("outcome_facts", _FACTS),
            pa.field("immediate", pa.float64(), nullable=False),
            pa.field("long_term", pa.float64(), nullable=False),
            pa.field("total", pa.float64(), nullable=False),
            pa.field("reward_version", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
        ]
    )


_ORIGIN = {f"origin_{name}": name for name in ("partition", "offset", "index")}
_FACT_COLUMNS = ("facts", "outcome_facts")


def rows_to_table(rows: Sequence[Experience], n_observation: int, n_actions: int) -> pa.Table:
    """Return rows as a table of `experience_schema`.

    Raises:
        pyarrow.ArrowInvalid: a vector has another size than the schema's.
    """
    schema = experience_schema(n_observation, n_actions)
    columns = [_column(rows, field) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(rows: Sequence[Experience], field: pa.Field) -> pa.Array:
    values: list[Any]
    if field.name in _ORIGIN:
        part = _ORIGIN[field.name]
        values = [getattr(row.origin, part) for row in rows]
    elif field.name in _FACT_COLUMNS:
        facts = [getattr(row, field.name) for row in rows]
        values = [None if f is None else list(f.items()) for f in facts]
    else:
        values = [getattr(row, field.name) for row in rows]
    return pa.array(values, type=field.type)


def table_to_rows(table: pa.Table) -> list[Experience]:
    """Return a table's rows as they were written, the same in every field."""
    names = [n for n in table.column_names if n not in _ORIGIN]
    columns = {name: table.column(name).to_pylist() for name in names}
    for name in _FACT_COLUMNS:
        columns[name] = [None if v is None else dict(v) for v in columns[name]]
    origins = [
        Origin(*place)
        for place in zip(*(table.column(n).to_pylist() for n in _ORIGIN), strict=True)
    ]
    return [
        Experience(origin=origin, **dict(zip(names, values, strict=True)))
        for origin, values in zip(
            origins, zip(*(columns[n] for n in names), strict=True), strict=True
        )
    ]
