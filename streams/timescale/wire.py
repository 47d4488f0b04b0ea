"""Rows as PostgreSQL's binary COPY takes them, made from the rows' own bytes.

https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from schemas.compiled import AHEAD, Ints, bytes_of
from schemas.events import Detail
from schemas.kernels import KIND, REQUIRED
from schemas.limits import MAX_EVENT_TIME_MS
from schemas.packed import Packed, RowBytes, canonical, pack, read_packed
from schemas.records import Experience, Signal, decoded, encode_row
from schemas.spans import mark_nul
from schemas.walk import ROW, Rows
from streams.timescale.columns import COLUMNS, EXACT, LANGUAGE_USED, NAMES
from streams.timescale.wire_rows import EXTRA, HOW, row_sizes, write_rows

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""With no flags and no extension of the header."""
_TRAILER = b"\xff\xff"
_JSONB = b"\x01"
"""What jsonb is on the wire: text behind a version byte."""
_EPOCH_US = 946_684_800_000_000
"""Microseconds from 1970, where ours begin, to 2000, where PostgreSQL's do."""

_facts = msgspec.msgpack.Decoder(dict[str, float]).decode
_details = msgspec.msgpack.Decoder(dict[str, Detail]).decode
_LOAD: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(("facts", "outcome_facts", "next_facts"), _facts),
    **dict.fromkeys(("details", "outcome_details"), _details),
    "related": msgspec.msgpack.Decoder(list[str]).decode,
    "signals": msgspec.msgpack.Decoder(list[Signal]).decode,
}
_encode_json = msgspec.json.Encoder().encode

_SOURCES = [(column.source.replace(".", "_"), column.kind) for column in COLUMNS]
_TEXTS = [source for source, kind in _SOURCES if kind == "text"]
_TIMES = [source for source, kind in _SOURCES if kind == "time"]
_FIELDS = [*(source for source, _ in _SOURCES), LANGUAGE_USED]
"""The columns of `NAMES` as the fields of a row, but for `EXACT`, which is the last."""
_EXTRA = [*(column.name for column in COLUMNS if column.kind == "json"), EXACT]
_PLACES = np.array([ROW.place(name) for name in _FIELDS])
_ALWAYS = ROW.layout[_PLACES, REQUIRED, None].astype(np.uint8)
_KINDS = np.array([HOW[int(kind)] for kind in ROW.layout[_PLACES, KIND]] + [EXTRA])
_SLOTS = np.array(
    [
        _EXTRA.index(name) if how == EXTRA else ROW.slot(name)
        for name, how in zip([*_FIELDS, EXACT], _KINDS, strict=True)
    ]
)


def copy_stream(rows: Sequence[RowBytes]) -> Iterator[bytes | memoryview]:
    """Yield what COPY is sent for rows, in the order of `NAMES`, some megabytes at once.

    Raises:
        pyarrow.ArrowInvalid: a whole number has more than 64 bits, or a time is out of range.
        msgspec.MsgspecError: a row is no experience.
    """
    yield _SIGNATURE
    if rows:
        for part in pack(rows).chunks():
            yield _rows(part)
    yield _TRAILER


def _rows(packed: Packed) -> memoryview:
    packed, made = read_packed(packed, _Made)
    if made.unsayable:
        exact = {i: canonical(packed[i]) for i in sorted(made.unsayable)}
        said = [_sayable(exact[i]) if i in exact else packed[i] for i in range(len(packed))]
        packed, made = read_packed(pack(said), _Made)
        made.extra(EXACT, list(exact.values()), np.array(list(exact)))
    return made.assemble()


def _sayable(row: bytes) -> bytes:
    """Return a row with what SQL can read in place of the NULs that it cannot."""
    said = _without_nul(msgspec.msgpack.decode(row))
    return encode_row(msgspec.convert(said, Experience, builtin_types=(bytes,)))


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value


class _Made:
    """What is made of rows for COPY, and which of them PostgreSQL cannot say in its columns."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._there = np.zeros((len(NAMES), rows.n), np.uint8)
        self._there[:-1] = rows.found.there[_PLACES] | _ALWAYS
        self._parts: list[bytes] = []
        self._n_parts = 0
        self._extra = np.zeros((len(_EXTRA), rows.n), np.int64)
        marked = np.zeros(rows.n, np.uint8)
        for name in _TEXTS:
            mark_nul(rows.data, rows.values(name), marked)
        self.unsayable = set(np.flatnonzero(marked).tolist())
        """Rows with a NUL in a text, or a float that jsonb would change."""
        for name in _TIMES:
            self._time(name)
        for name in _LOAD:
            self._json(name)

    def extra(self, name: str, values: Sequence[bytes], rows: Ints, before: bytes = b"") -> None:
        """Take what was made for a column of some rows, each behind the same first bytes."""
        sizes = np.fromiter(map(len, values), np.int64, len(values)) + len(before)
        starts = self._n_parts + np.cumsum(sizes) - sizes
        self._extra[_EXTRA.index(name), rows] = starts << 32 | sizes
        self._there[NAMES.index(name), rows] = 1
        self._parts.append(before.join([b"", *values]))
        self._n_parts += int(sizes.sum())

    def assemble(self) -> memoryview:
        """Return the rows as COPY takes them."""
        sizes = np.empty(self._rows.n, np.int64)
        columns = (_KINDS, _SLOTS, self._there, self._rows.found.value, self._extra)
        row_sizes(*columns, sizes)
        n = int(sizes.sum())
        out = np.empty(n + AHEAD, np.uint8)
        write_rows(self._rows.data, bytes_of(self._parts), *columns, out)
        return out[:n].data

    def _time(self, name: str) -> None:
        values = self._rows.values(name)
        if (np.abs(values) > MAX_EVENT_TIME_MS).any():
            msg = f"{name} must be at most {MAX_EVENT_TIME_MS}"
            raise pa.ArrowInvalid(msg)
        values *= 1000
        values -= _EPOCH_US

    def _json(self, name: str) -> None:
        """Make values JSON."""
        load, detailed = _LOAD[name], name in ("details", "outcome_details")
        rows = self._rows.having(name)
        if not len(rows):
            return
        parts = self._rows.parts(name, rows)
        # one by one: many dicts that live at once would set the garbage collector to work
        lines = [_encode_json(decoded(load, part)) for part in parts]
        self.extra(name, lines, rows, _JSONB)
        if detailed or b"-0.0" in self._parts[-1] or b"\\u0000" in self._parts[-1]:
            for row, part, line in zip(rows.tolist(), parts, lines, strict=True):
                if b"-0.0" in line or b"\\u0000" in line or (detailed and _grows(load(part))):
                    self.unsayable.add(row)


def _grows(value: dict[str, Detail]) -> bool:
    """Whether jsonb writes out a float of `details` as the whole number that it is.

    Facts need no such care: they are read back as floats, whatever they look like.
    """
    return any(isinstance(v, float) and abs(v) >= 1e15 for v in value.values())
