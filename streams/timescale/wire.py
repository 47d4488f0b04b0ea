"""Rows as PostgreSQL's binary COPY takes them, made column by column from the rows' own bytes.

https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format"). Every value is a span of
some buffer; a column is copied to where its rows have it in one step for each size that it has.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.cursor import ALL, Cursor, Positions, Spans, Where
from schemas.events import Detail
from schemas.limits import MAX_EVENT_TIME_MS
from schemas.packed import Packed, RowBytes, canonical, chunks, encode_row, read_packed, walk
from schemas.records import Experience, Signal
from streams.timescale.columns import COLUMNS, EXACT, LANGUAGE_USED, NAMES

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""With no flags and no extension of the header."""
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_N_COLUMNS = struct.pack(">h", len(NAMES))
_JSONB = b"\x01"
"""What jsonb is on the wire: text behind a version byte."""
_EPOCH_US = 946_684_800_000_000
"""Microseconds from 1970, where ours begin, to 2000, where PostgreSQL's do."""
_MANY_SIZES = 24
"""A column of more sizes is copied row by row: a step for each size would cost more."""

_KINDS = {column.name: column.kind for column in COLUMNS}
_WIRE_NAMES = {c.source: c.name for c in COLUMNS if c.kind == "time"}
_FLAGS = ("explored", "terminated", "truncated")
_facts = msgspec.msgpack.Decoder(dict[str, float]).decode
_details = msgspec.msgpack.Decoder(dict[str, Detail]).decode
_LOAD: dict[str, Callable[[bytearray], Any]] = {
    **dict.fromkeys(("facts", "outcome_facts", "next_facts"), _facts),
    **dict.fromkeys(("details", "outcome_details"), _details),
    "related": msgspec.msgpack.Decoder(list[str]).decode,
    "signals": msgspec.msgpack.Decoder(list[Signal]).decode,
}
_encode_json = msgspec.json.Encoder().encode


class _Piece(msgspec.Struct, frozen=True):
    """A column: the rows that have a value, and where those lie in a buffer."""

    where: Where | None
    source: Any = b""
    spans: Spans = Spans(np.empty(0, np.int64), np.empty(0, np.int64))
    sizes: Sequence[tuple[int, slice | Positions]] = ()
    """Each size, and which values have it."""


def copy_stream(rows: Sequence[RowBytes]) -> Iterator[bytes | memoryview]:
    """Yield what COPY is sent for rows, in the order of `NAMES`, some megabytes at once.

    Raises:
        pyarrow.ArrowInvalid: a whole number has more than 64 bits, or a time is out of range.
        msgspec.MsgspecError: a row is no experience.
    """
    yield _SIGNATURE
    for part in chunks(rows):
        yield _rows(part)
    yield _TRAILER


def _rows(rows: Sequence[RowBytes]) -> memoryview:
    packed, reader = read_packed(rows, _Reader)
    if not reader.unsayable:
        return _assemble(reader.pieces, len(rows))
    exact = {i: canonical(rows[i]) for i in sorted(reader.unsayable)}
    said = [_sayable(exact[i]) if i in exact else row for i, row in enumerate(rows)]
    packed, reader = read_packed(said, _Reader)
    reader.pieces[EXACT] = _of_parts(list(exact.values()), np.array(list(exact)))
    return _assemble(reader.pieces, len(packed.starts))


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


class _Reader:
    """Finds every column's values, and the rows that PostgreSQL cannot say in its columns."""

    def __init__(self, packed: Packed) -> None:
        self.unsayable: set[int] = set()
        """Rows with a NUL in a text, or a float that jsonb would change."""
        self.pieces: dict[str, _Piece] = {EXACT: _Piece(None)}
        self._cursor = cursor = Cursor(packed.data, packed.starts)
        self._n = len(packed.starts)
        for name, where in walk(cursor, packed):
            self.pieces[_WIRE_NAMES.get(name, name)] = self._piece(name, where)

    def _piece(self, name: str, where: Where | None) -> _Piece:
        if name == LANGUAGE_USED:
            return self._flags(where, None)
        kind = _KINDS[_WIRE_NAMES.get(name, name)]
        if where is None:
            return self._absent(name)
        if kind == "text":
            return self._text(where)
        if kind == "bytes":
            spans = self._cursor.binary(where)
            return _Piece(where, self._cursor.data, spans, _by_size(spans))
        if kind == "float":
            begin = self._cursor.at[where] + 1  # as it is on the wire
            self._cursor.real(where)
            spans = Spans(begin, np.full(len(begin), 8))
            return _Piece(where, self._cursor.data, spans, [(8, ALL)])
        if kind == "json":
            return self._json(name, where)
        if name in _FLAGS:
            return self._flags(where, self._cursor.boolean(where))
        if kind == "bool":
            return _fixed(self._cursor.boolean(where).astype(np.uint8), where)
        return self._number(name, where, kind == "time")

    def _absent(self, name: str) -> _Piece:
        """Return the column of a field that no row has: null, or what it is by default."""
        if name == "revision":
            return _fixed(np.zeros(self._n, ">i8"), ALL)
        return self._flags(None, None) if name in _FLAGS else _Piece(None)

    def _flags(self, where: Where | None, values: NDArray[np.bool_] | None) -> _Piece:
        """Return truth values that are false where they are not said."""
        flags = np.zeros(self._n, np.uint8)
        if where is not None:
            flags[where] = 1 if values is None else values
        return _fixed(flags, ALL)

    def _number(self, name: str, where: Where, is_time: bool) -> _Piece:
        values = self._cursor.integer(where)
        if is_time:
            if (np.abs(values) > MAX_EVENT_TIME_MS).any():
                msg = f"{name} must be at most {MAX_EVENT_TIME_MS}"
                raise pa.ArrowInvalid(msg)
            values = values * 1000 - _EPOCH_US
        if name == "revision":
            values, given = np.zeros(self._n, np.int64), values
            values[where] = given
            where = ALL
        return _fixed(values.astype(">i8"), where)

    def _text(self, where: Where) -> _Piece:
        spans = self._cursor.text(where)
        source, sizes = self._cursor.data, _by_size(spans)
        for size, rows in sizes:
            if size and (_windows(source, size)[spans.start[rows]].view(np.uint8) == 0).any():
                found = np.arange(self._n)[where][rows].tolist()
                starts = spans.start[rows].tolist()
                self.unsayable.update(
                    row
                    for row, at in zip(found, starts, strict=True)
                    if b"\0" in source[at : at + size]
                )
        return _Piece(where, source, spans, sizes)

    def _json(self, name: str, where: Where) -> _Piece:
        """Return values as JSON."""
        load, detailed = _LOAD[name], name in ("details", "outcome_details")
        parts = self._cursor.parts(self._cursor.skip(where))
        # one by one: many dicts that live at once would set the garbage collector to work
        lines = [_encode_json(load(part)) for part in parts]
        piece = _of_parts(lines, where, _JSONB)
        if detailed or b"-0.0" in piece.source or b"\\u0000" in piece.source:
            rows = np.arange(self._n)[where].tolist()
            for row, part, line in zip(rows, parts, lines, strict=True):
                if b"-0.0" in line or b"\\u0000" in line or (detailed and _grows(load(part))):
                    self.unsayable.add(row)
        return piece


def _grows(value: dict[str, Detail]) -> bool:
    """Whether jsonb writes out a float of `details` as the whole number that it is.

    Facts need no such care: they are read back as floats, whatever they look like.
    """
    return any(isinstance(v, float) and abs(v) >= 1e15 for v in value.values())


def _of_parts(parts: Sequence[bytes], where: Where, before: bytes = b"") -> _Piece:
    """Return a column of byte strings, each behind the same first bytes."""
    sizes = np.fromiter(map(len, parts), np.int64, len(parts)) + len(before)
    spans = Spans(np.cumsum(sizes) - sizes, sizes)
    return _Piece(where, before.join([b"", *parts]), spans, _by_size(spans))


def _fixed(values: NDArray[Any], where: Where) -> _Piece:
    """Return a column of values of one width, in the bytes that they have on the wire."""
    width = values.itemsize
    spans = Spans(np.arange(len(values)) * width, np.full(len(values), width))
    return _Piece(where, values.tobytes(), spans, [(width, ALL)])


def _windows(source: Any, size: int) -> NDArray[Any]:
    """Return a buffer as strings of so many bytes that begin at each of its bytes."""
    return np.ndarray((len(source) - size + 1,), f"V{size}", source, strides=(1,))


def _by_size(spans: Spans) -> list[tuple[int, slice | Positions]]:
    """Return each size and which spans have it."""
    size = spans.size
    if not len(size):
        return []
    first = int(size[0])
    if (size == first).all():
        return [(first, ALL)]
    return [(s, np.flatnonzero(size == s)) for s in np.unique(size).tolist()]


class _Writer:
    """Puts one column behind the other into all rows at once."""

    def __init__(self, out: NDArray[np.uint8], at: Positions) -> None:
        self._out = out
        self._bytes = memoryview(out.data)
        self._at = at
        self._constant = b""
        """What all rows get next."""

    def same(self, data: bytes) -> None:
        """Put the same bytes into every row."""
        self._constant += data

    def column(self, piece: _Piece) -> None:
        """Put a column's values behind their sizes."""
        if piece.where is None:
            self.same(_NULL)
            return
        if isinstance(piece.where, slice) and len(piece.sizes) == 1:
            size = piece.sizes[0][0]
            self.same(struct.pack(">i", size))
            self.flush()
            self._copy(piece, self._at)
            self._at = self._at + size
            return
        self.flush()
        size_of = np.full(len(self._at), -1)
        size_of[piece.where] = piece.spans.size
        np.ndarray((len(self._out) - 3,), ">i4", self._out, strides=(1,))[self._at] = size_of
        self._at = self._at + 4
        self._copy(piece, self._at[piece.where])
        self._at = self._at + np.maximum(size_of, 0)

    def _copy(self, piece: _Piece, to: Positions) -> None:
        start = piece.spans.start
        if len(piece.sizes) > _MANY_SIZES:
            ends = (start + piece.spans.size).tolist()
            for a, b, c in zip(start.tolist(), ends, to.tolist(), strict=True):
                self._bytes[c : c + b - a] = piece.source[a:b]
            return
        for size, rows in piece.sizes:
            if size:
                found = _windows(piece.source, size)[start[rows]]
                _windows(self._out, size)[to[rows]] = found

    def flush(self) -> None:
        """Write what is the same for all rows."""
        if self._constant:
            size = len(self._constant)
            _windows(self._out, size)[self._at] = np.void(self._constant)
            self._at, self._constant = self._at + size, b""


def _assemble(pieces: dict[str, _Piece], n: int) -> memoryview:
    sizes = np.full(n, len(_N_COLUMNS) + 4 * len(NAMES))
    for piece in pieces.values():
        if piece.where is not None:
            if len(piece.sizes) == 1:
                sizes[piece.where] += piece.sizes[0][0]
            else:
                sizes[piece.where] += piece.spans.size
    out = np.empty(int(sizes.sum()), np.uint8)
    writer = _Writer(out, np.cumsum(sizes) - sizes)
    writer.same(_N_COLUMNS)
    for name in NAMES:
        writer.column(pieces[name])
    writer.flush()
    return memoryview(out.data)
