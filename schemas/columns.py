"""Encoded experience as Arrow columns, with no Python object for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.arrow import DETAIL_COLUMNS, FACT_COLUMNS, RowsDigest, experience_schema
from schemas.compiled import Bytes, Ints
from schemas.events import Detail
from schemas.kernels import count_facts, read_facts
from schemas.packed import Packed, pack, read_packed
from schemas.records import Experience, Signal, decoded, encode_row
from schemas.spans import add_sizes, gather
from schemas.texts import texts_of
from schemas.walk import NotCanonical, Rows

_encode_details = msgspec.json.Encoder(order="deterministic").encode


def _show_details(details: dict[str, Detail]) -> str:
    return _encode_details(details).decode()


def _show_signals(signals: list[Signal]) -> list[dict[str, Any]]:
    return [
        {"name": signal.name, "time_ms": signal.time_ms, "facts": list(signal.facts.items())}
        for signal in signals
    ]


_load_details = msgspec.msgpack.Decoder(dict[str, Detail]).decode
_DECODED: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], Any]]] = {
    **dict.fromkeys(DETAIL_COLUMNS, (_load_details, _show_details)),
    "signals": (msgspec.msgpack.Decoder(list[Signal]).decode, _show_signals),
    "related": (msgspec.msgpack.Decoder(list[str]).decode, list),
}
"""How the values of no fixed shape are read, and what their columns take."""


def rows_to_table(rows: Sequence[Experience], n_observation: int, n_actions: int) -> pa.Table:
    """Return rows as a table of `experience_schema`.

    Raises:
        pyarrow.ArrowInvalid: a vector has another size than the schema's.
    """
    schema = experience_schema(n_observation, n_actions)
    if not rows:
        return schema.empty_table()
    packed = pack([encode_row(row) for row in rows])
    return pa.Table.from_batches(Columns(schema).batches(packed.chunks(), RowsDigest()), schema)


class Columns:
    """Makes encoded rows columns of `experience_schema`.

    Texts may be of a dictionary type in the schema: then each is there once. One of these serves
    all windows of a schema: what reads which column is looked up when it is made.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._readers = [(field.name, field.type, _reader_of(field)) for field in schema]
        self._absent: dict[tuple[str, int], pa.Array] = {}

    def batches(self, parts: Iterable[Packed], digest: RowsDigest) -> Iterator[pa.RecordBatch]:
        """Yield encoded rows as columns, each batch once `digest` has it.

        Raises:
            pyarrow.ArrowInvalid: a vector has another size than the schema's.
            msgspec.MsgspecError: a row is no experience.
        """
        for part in parts:
            packed, batch = read_packed(part, self._read)
            digest.add_packed(packed.stream, len(packed))
            yield batch

    def _read(self, rows: Rows) -> pa.RecordBatch:
        """Return columns.

        Raises:
            NotCanonical: the rows are not in the form that `encode_row` gives them.
            pyarrow.ArrowInvalid: a value does not fit its column.
        """
        columns: list[pa.Array] = []
        for name, of, read in self._readers:
            there = rows.there(name)
            n = rows.n if there is None else np.count_nonzero(there)
            if n:
                columns.append(read(rows, name, of, there if n < rows.n else None))
            else:
                columns.append(self._without(name, of, rows.n))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _without(self, name: str, of: pa.DataType, n: int) -> pa.Array:
        """Return the column of a field that none of n rows has."""
        column = self._absent.get((name, n))
        if column is None:
            if len(self._absent) >= _N_ABSENT:
                self._absent.clear()
            column = (
                pa.array(np.zeros(n, np.int32)).cast(of) if name in _DEFAULTS else pa.nulls(n, of)
            )
            self._absent[name, n] = column
        return column


_N_ABSENT = 128
"""Columns that are kept to be used again."""
_DEFAULTS = ("revision", "explored", "terminated", "truncated", "language_used")
"""Columns that are 0 or false, and not null, where rows do not say them."""

_Reader = Callable[[Rows, str, pa.DataType, Bytes | None], pa.Array]
"""Takes which rows have a value, None where all have."""


def _with_default(rows: Rows, name: str, of: pa.DataType, there: Bytes | None) -> pa.Array:
    if of == pa.bool_():
        return pa.array(np.ones(rows.n, np.bool_) if there is None else there.view(np.bool_))
    return _integers(rows, name, of, None)


def _integers(rows: Rows, name: str, of: pa.DataType, there: Bytes | None) -> pa.Array:
    values = rows.values(name)
    return _array(of, rows.n, there, _narrow(name, values) if of == pa.int32() else values)


def _numbers(rows: Rows, name: str, of: pa.DataType, there: Bytes | None) -> pa.Array:
    return _array(of, rows.n, there, rows.values(name))


def _truths(rows: Rows, name: str, of: pa.DataType, there: Bytes | None) -> pa.Array:
    bits = np.packbits(rows.values(name) != 0, bitorder="little")
    return _array(of, rows.n, there, bits)


def _texts(rows: Rows, name: str, of: pa.DataType, there: Bytes | None) -> pa.Array:
    return _checked(_cut(rows.data, rows.values(name), of, there))


def _repeated(rows: Rows, name: str, of: pa.DataType, there: Bytes | None) -> pa.Array:
    spans = rows.values(name)
    if there is None:
        return _few(rows.data, spans, of)
    some = there != 0
    found, number = _few(rows.data, spans[some], of), np.zeros(rows.n, np.int32)
    number[some] = found.indices
    data = [_valid(there), pa.py_buffer(number)]
    return pa.DictionaryArray.from_buffers(of, rows.n, data, found.dictionary)


def _binary(rows: Rows, name: str, of: pa.DataType, there: Bytes | None) -> pa.Array:
    return _cut(rows.data, rows.values(name), of, there)


def _vectors(rows: Rows, name: str, of: pa.DataType, there: Bytes | None) -> pa.Array:
    spans, width = rows.values(name), of.byte_width
    size = spans & 0xFFFFFFFF
    wrong = size[(size != width) & (True if there is None else there != 0)]
    if len(wrong):
        msg = f"{name} of {wrong[0]} bytes where there must be {width}"
        raise pa.ArrowInvalid(msg)
    out = (np.empty if there is None else np.zeros)(width * rows.n, np.uint8)
    gather(rows.data, spans, np.arange(rows.n, dtype=np.int32) * np.int32(width), out)
    return _array(of, rows.n, there, out)


def _facts(rows: Rows, name: str, of: pa.DataType, there: Bytes | None) -> pa.Array:
    """Read maps of names to floats."""
    spans, offsets = rows.values(name), np.zeros(rows.n + 1, np.int32)
    count_facts(rows.data, spans, offsets)
    n = int(offsets[-1])
    names, numbers = np.empty(n, np.int64), np.empty(n, np.int64)
    read_facts(rows.data, spans, offsets, names, numbers)
    if pa.types.is_dictionary(of.key_type):
        texts = _few(rows.data, names, of.key_type)
    else:
        texts = _checked(_cut(rows.data, names, pa.string(), None))
    begins = pa.array(offsets, mask=None if there is None else np.append(there == 0, False))
    return pa.MapArray.from_arrays(begins, texts, _array(pa.float64(), n, None, numbers))


def _decoded(rows: Rows, name: str, of: pa.DataType, _: Bytes | None) -> pa.Array:
    """Read the few values that have no fixed shape, as objects."""
    found: list[Any] = [None] * rows.n
    load, show = _DECODED[name]
    some = rows.having(name)
    for row, data in zip(some.tolist(), rows.parts(name, some), strict=True):
        value = decoded(load, data)
        if encode_row(value) != data:
            raise NotCanonical
        found[row] = show(value)
    return pa.array(found, type=of)


def _few(source: Bytes, spans: Ints, of: pa.DataType) -> pa.DictionaryArray:
    """Return the texts that spans are of, each once.

    Raises:
        pyarrow.ArrowInvalid: one is not UTF-8.
    """
    try:
        texts, number = texts_of(source, spans)
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(str(error)) from error
    data = [None, pa.py_buffer(number)]
    return pa.DictionaryArray.from_buffers(of, len(spans), data, pa.array(texts, pa.string()))


def _cut(source: Bytes, spans: Ints, of: pa.DataType, there: Bytes | None) -> pa.Array:
    """Return the texts or bytes that spans are of."""
    offsets = np.zeros(len(spans) + 1, np.int32)
    out = np.empty(add_sizes(spans, offsets), np.uint8)
    gather(source, spans, offsets, out)
    data = [_valid(there), pa.py_buffer(offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(of, len(spans), data)


def _checked(texts: pa.Array) -> pa.Array:
    """Return texts that are UTF-8; raises `pyarrow.ArrowInvalid` for others."""
    data = np.frombuffer(texts.buffers()[2], np.uint8)
    if len(data) and data.max() >= 0x80:
        texts.validate(full=True)
    return texts


def _array(of: pa.DataType, n: int, there: Bytes | None, values: NDArray[Any]) -> pa.Array:
    """Return values in their rows, null in the others."""
    return pa.Array.from_buffers(of, n, [_valid(there), pa.py_buffer(values)])


def _valid(there: Bytes | None) -> pa.Buffer | None:
    """Return Arrow's bits for rows that have a value."""
    return None if there is None else pa.py_buffer(np.packbits(there, bitorder="little"))


def _narrow(name: str, values: NDArray[np.int64]) -> NDArray[np.int32]:
    if values.min() < -(1 << 31) or values.max() >= 1 << 31:
        msg = f"{name} must be a whole number of 32 bits"
        raise pa.ArrowInvalid(msg)
    return values.astype(np.int32)


_BY_NAME: dict[str, _Reader] = {
    **dict.fromkeys(FACT_COLUMNS, _facts),
    **dict.fromkeys(_DECODED, _decoded),
    **dict.fromkeys(_DEFAULTS, _with_default),
    "continuous": _binary,
}
_BY_TYPE: dict[pa.DataType, _Reader] = {
    pa.string(): _texts,
    pa.int32(): _integers,
    pa.int64(): _integers,
    pa.float64(): _numbers,
    pa.bool_(): _truths,
}


def _reader_of(field: pa.Field) -> _Reader:
    """Return what reads a column: by its name, else by its type."""
    by_kind = _repeated if pa.types.is_dictionary(field.type) else _vectors
    return _BY_NAME.get(field.name) or _BY_TYPE.get(field.type, by_kind)
