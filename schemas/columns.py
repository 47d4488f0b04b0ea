"""Encoded experience as Arrow columns, a field at a time, with no Python object for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.cursor import ALL, Cursor, Spans, Where
from schemas.events import Detail
from schemas.forms import NotCanonical
from schemas.packed import Packed, RowBytes, encode_row, read_packed, walk
from schemas.records import Signal

FACT_COLUMNS = ("facts", "outcome_facts", "next_facts")
DETAIL_COLUMNS = ("details", "outcome_details")

_encode_details = msgspec.json.Encoder(order="deterministic").encode


def _show_details(details: dict[str, Detail]) -> str:
    return _encode_details(details).decode()


def _show_signals(signals: list[Signal]) -> list[dict[str, Any]]:
    return [
        {"name": signal.name, "time_ms": signal.time_ms, "facts": list(signal.facts.items())}
        for signal in signals
    ]


_load_details = msgspec.msgpack.Decoder(dict[str, Detail]).decode
_DECODED: dict[str, tuple[Callable[[bytearray], Any], Callable[[Any], Any]]] = {
    **dict.fromkeys(DETAIL_COLUMNS, (_load_details, _show_details)),
    "signals": (msgspec.msgpack.Decoder(list[Signal]).decode, _show_signals),
    "related": (msgspec.msgpack.Decoder(list[str]).decode, list),
}
"""How the values of no fixed shape are read, and what their columns take."""


def read_columns(rows: Sequence[RowBytes], schema: pa.Schema) -> tuple[Packed, pa.RecordBatch]:
    """Return rows in one buffer, in canonical form, and as columns of a schema.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit its column.
        msgspec.MsgspecError: a row is no experience.
    """
    return read_packed(rows, lambda packed: _Reader(packed, schema).read())


class _Column(msgspec.Struct, frozen=True):
    """How a column of a schema is read."""

    name: str
    type: pa.DataType
    read: str
    """Name of the reader's method."""


@lru_cache(maxsize=16)
def _columns_of(schema: pa.Schema) -> dict[str, _Column]:
    return {f.name: _Column(f.name, f.type, _method(f.name, f.type)) for f in schema}


def _method(name: str, of: pa.DataType) -> str:
    """Return what reads a column: by its name, else by its type."""
    by_name = {
        **dict.fromkeys(FACT_COLUMNS, "_facts"),
        **dict.fromkeys(_DECODED, "_decoded"),
        **dict.fromkeys(("explored", "terminated", "truncated"), "_flags"),
        "continuous": "_binary",
        "revision": "_revisions",
        "language_used": "_used",
    }
    by_type = {
        pa.string(): "_texts",
        pa.int32(): "_integers",
        pa.int64(): "_integers",
        pa.float64(): "_reals",
        pa.bool_(): "_truths",
    }
    return by_name.get(name) or by_type.get(of, "_vectors")


_Entry = tuple[Where, Spans, NDArray[np.float64]]
"""The rows whose maps have an n-th name and number, and what those are."""


class _Reader:
    """Reads packed rows into the columns of a schema of `schemas.arrow`."""

    def __init__(self, packed: Packed, schema: pa.Schema) -> None:
        self._cursor = Cursor(packed.data, packed.starts)
        self._buffer = pa.py_buffer(packed.data)
        self._packed = packed
        self._schema = schema
        self._plan = _columns_of(schema)
        self._n = len(packed.starts)
        self._columns: dict[str, pa.Array] = {}

    def read(self) -> pa.RecordBatch:
        """Return the columns.

        Raises:
            NotCanonical: the rows are not in the form that `encode_row` gives them.
            pyarrow.ArrowInvalid: a value does not fit its column.
        """
        for name, where in walk(self._cursor, self._packed):
            column = self._plan[name]
            if where is None:
                self._columns[name] = _absent(name, column.type, self._n)
            else:
                self._columns[name] = getattr(self, column.read)(column, where)
        columns = [self._columns[name] for name in self._plan]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _used(self, _: _Column, where: Where) -> pa.Array:
        return pa.array(_mask(where, self._n))

    def _integers(self, column: _Column, where: Where) -> pa.Array:
        values = self._cursor.integer(where)
        narrow = column.type == pa.int32()
        fits = _narrow(column.name, values) if narrow else values
        return self._spread(fits, where, column.type)

    def _revisions(self, column: _Column, where: Where) -> pa.Array:
        values = self._cursor.integer(where)
        if not values.all():
            raise NotCanonical  # 0 is left out
        return pa.array(_filled(_narrow(column.name, values), where, self._n, 0), column.type)

    def _reals(self, column: _Column, where: Where) -> pa.Array:
        return self._spread(self._cursor.real(where), where, column.type)

    def _truths(self, column: _Column, where: Where) -> pa.Array:
        return self._spread(self._cursor.boolean(where), where, column.type)

    def _flags(self, _: _Column, where: Where) -> pa.Array:
        values = self._cursor.boolean(where)
        if not values.all():
            raise NotCanonical  # False is left out
        return pa.array(_filled(values, where, self._n, False))

    def _facts(self, _: _Column, where: Where) -> pa.Array:
        """Read maps of names to floats, entry by entry."""
        counts = np.zeros(self._n, np.int64)
        counts[where] = self._cursor.begin(where, "map")
        offsets = np.concatenate(([0], np.cumsum(counts)))
        entries = [self._entry(counts > i) for i in range(int(counts.max()))]
        same = [name.same for _, name, _ in entries if name.same is not None]
        if entries and len(same) == len(entries):  # then all rows have all of them
            texts = _repeated(same, self._n)
            numbers = np.column_stack([values for _, _, values in entries]).ravel()
        else:
            texts, numbers = self._scattered(entries, offsets)
        absent = np.append(~_mask(where, self._n), False)
        return pa.MapArray.from_arrays(
            pa.array(offsets.astype(np.int32), mask=absent), texts, pa.array(numbers)
        )

    def _entry(self, there: NDArray[np.bool_]) -> _Entry:
        """Read the next name and number of the maps that have one."""
        where: Where = ALL if there.all() else np.flatnonzero(there)
        return where, self._cursor.text(where), self._cursor.real(where)

    def _scattered(
        self, entries: list[_Entry], offsets: NDArray[np.int64]
    ) -> tuple[pa.Array, NDArray[np.float64]]:
        """Return names and numbers, map by map, of maps that begin at `offsets`."""
        total = int(offsets[-1])
        names = Spans(np.empty(total, np.int64), np.empty(total, np.int64))
        numbers = np.empty(total)
        for i, (where, name, values) in enumerate(entries):
            place = offsets[:-1][where] + i
            names.start[place], names.size[place] = name.start, name.size
            numbers[place] = values
        texts = _checked(self._cut(names, ALL))
        _check_order(texts, offsets)
        return texts, numbers

    def _decoded(self, column: _Column, where: Where) -> pa.Array:
        """Read the few values that have no fixed shape, as objects."""
        found: list[Any] = [None] * self._n
        load, show = _DECODED[column.name]
        rows = np.arange(self._n)[where].tolist()
        for row, data in zip(rows, self._cursor.parts(self._cursor.skip(where)), strict=True):
            value = load(data)
            if encode_row(value) != data:
                raise NotCanonical
            found[row] = show(value)
        return pa.array(found, type=column.type)

    def _texts(self, _: _Column, where: Where) -> pa.Array:
        """Read texts; where all are the same, as a game's name is, without looking each up."""
        spans = self._cursor.text(where)
        if spans.same is None:
            return _checked(self._cut(spans, where))
        try:
            return pa.repeat(spans.same.decode(), self._n)
        except UnicodeDecodeError as error:
            raise pa.ArrowInvalid(str(error)) from error

    def _binary(self, column: _Column, where: Where) -> pa.Array:
        return self._cut(self._cursor.binary(where), where).cast(column.type)

    def _cut(self, spans: Spans, where: Where) -> pa.Array:
        if isinstance(where, slice):
            return cut_texts(self._buffer, spans)
        return cut_texts(self._buffer, spans, self._spread(_seconds(spans), where, pa.int64()))

    def _vectors(self, column: _Column, where: Where) -> pa.Array:
        spans, of = self._cursor.binary(where), column.type
        if (spans.size != of.byte_width).any():
            other = int(spans.size[spans.size != of.byte_width][0])
            msg = f"{column.name} of {other} bytes where there must be {of.byte_width}"
            raise pa.ArrowInvalid(msg)
        values = self._cursor.view(f"V{of.byte_width}")[spans.start]
        if isinstance(where, slice):
            return pa.Array.from_buffers(of, self._n, [None, pa.py_buffer(values)])
        there = pa.py_buffer(np.packbits(_mask(where, self._n), bitorder="little"))
        values = _filled(values, where, self._n, np.void(b"\0" * of.byte_width))
        return pa.Array.from_buffers(of, self._n, [there, pa.py_buffer(values)])

    def _spread(self, values: NDArray[Any], where: Where, of: pa.DataType) -> pa.Array:
        """Return values in their rows, null in the others."""
        if isinstance(where, slice):
            return pa.array(values, of)
        filled = _filled(values, where, self._n, 0)
        return pa.array(filled, of, mask=~_mask(where, self._n))


def cut_texts(data: pa.Buffer, spans: Spans, take: pa.Array | None = None) -> pa.Array:
    """Return texts, cut out of data by one look-up: each second of the pieces between.

    `take` places them in other rows: twice the number of each, plus none for no text.
    """
    n = len(spans.start)
    bounds = np.empty(2 * n + 1, np.int32)
    bounds[0:-1:2], bounds[1::2] = spans.start, spans.start + spans.size
    bounds[-1] = bounds[-2] if n else 0
    pieces = pa.Array.from_buffers(pa.string(), 2 * n, [None, pa.py_buffer(bounds), data])
    return pieces.take(pa.array(_seconds(spans)) if take is None else take)


def _seconds(spans: Spans) -> NDArray[np.int64]:
    return np.arange(0, 2 * len(spans.start), 2)


def _mask(where: Where | None, n: int) -> NDArray[np.bool_]:
    mask = np.zeros(n, np.bool_)
    if where is not None:
        mask[where] = True
    return mask


def _filled(values: NDArray[Any], where: Where, n: int, rest: Any) -> NDArray[Any]:
    """Return values in their rows and another one in the others."""
    if isinstance(where, slice):
        return values
    filled = np.full(n, rest, values.dtype)
    filled[where] = values
    return filled


def _narrow(name: str, values: NDArray[np.int64]) -> NDArray[np.int32]:
    if len(values) and (values.min() < -(1 << 31) or values.max() >= 1 << 31):
        msg = f"{name} must be a whole number of 32 bits"
        raise pa.ArrowInvalid(msg)
    return values.astype(np.int32)


@lru_cache(maxsize=128)
def _absent(name: str, of: pa.DataType, n: int) -> pa.Array:
    """Return the column of a field that no row has."""
    if name == "revision":
        return pa.array(np.zeros(n, np.int32))
    if name in ("explored", "terminated", "truncated", "language_used"):
        return pa.array(np.zeros(n, np.bool_))
    return pa.nulls(n, of)


def _checked(texts: pa.Array) -> pa.Array:
    """Return texts that are UTF-8; raises `pyarrow.ArrowInvalid` for others."""
    data = texts.buffers()[2]
    if data is not None and data.size and np.frombuffer(data, np.uint8).max() >= 0x80:
        texts.validate(full=True)
    return texts


def _repeated(names: list[bytes], n: int) -> pa.Array:
    """Return the names of maps that have the same ones in all n rows."""
    if any(a >= b for a, b in pairwise(names)):
        raise NotCanonical
    sizes = np.array([len(name) for name in names])
    offsets = np.concatenate(([0], np.cumsum(np.tile(sizes, n)))).astype(np.int32)
    data = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(names) * n)]
    return _checked(pa.Array.from_buffers(pa.string(), n * len(names), data))


def _check_order(names: pa.Array, offsets: NDArray[np.int64]) -> None:
    """Refuse maps whose keys do not rise: canonical bytes have them sorted, and none twice."""
    if len(names) < 2:
        return
    rises = pc.less(names[:-1], names[1:]).to_numpy(zero_copy_only=False)
    inner = offsets[(offsets > 0) & (offsets < len(names))]
    rises[inner - 1] = True  # from one map to the next
    if not rises.all():
        raise NotCanonical
