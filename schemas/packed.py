"""Encoded experience in one buffer, gone through field by field and not row by row.

A row's canonical bytes are what its digest is computed over, so one buffer of them serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.cursor import AHEAD, ALL, Cursor, Key, Where
from schemas.events import Language
from schemas.forms import NotCanonical
from schemas.records import Experience, RowHead

encode_row = msgspec.msgpack.Encoder(order="deterministic").encode
"""Returns the canonical bytes of a row."""
_decode_row = msgspec.msgpack.Decoder(Experience).decode

CHUNK_BYTES = 8 << 20
"""So much is made into columns at once: memory that is used again costs less than new memory."""
_PREFIX = b"\0\0\0\0"
_PADDING = bytes(AHEAD)
"""What a cursor sees behind the last row."""

TYPE, TAG = Key("type"), Key("experience.v2")

RowBytes = bytes | msgspec.Raw
T = TypeVar("T")

_FIELDS = [
    (field.name, Key(field.encode_name), field.required)
    for field in msgspec.structs.fields(Experience)
]
_LANGUAGE = [
    (f"language_{field.name}", Key(field.encode_name)) for field in msgspec.structs.fields(Language)
]


class Packed(msgspec.Struct, frozen=True):
    """Rows one behind the other, each behind its length: what the digest is computed over."""

    data: bytearray
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def stream(self) -> memoryview:
        """The bytes that a digest of these rows takes."""
        return memoryview(self.data)[: int(self.starts[-1] + self.sizes[-1])]


def chunks(rows: Sequence[RowBytes]) -> Iterator[Sequence[RowBytes]]:
    """Yield rows in parts of `CHUNK_BYTES` or a row more."""
    ends = np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)))
    begin = 0
    while begin < len(rows):
        before = int(ends[begin - 1]) if begin else 0
        end = int(np.searchsorted(ends, before + CHUNK_BYTES)) + 1
        yield rows[begin:end]
        begin = end


def pack(rows: Sequence[RowBytes]) -> Packed:
    """Return rows in one buffer; there must be one at least."""
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    data = bytearray(_PREFIX).join([b"", *rows, _PADDING])
    starts = np.cumsum(sizes + len(_PREFIX)) - sizes
    prefix = np.ndarray((len(data) - 3,), "<u4", data, strides=(1,))
    prefix[starts - len(_PREFIX)] = sizes
    return Packed(data, starts, sizes)


def row_bytes(row: Experience | RowHead) -> RowBytes:
    """Return a row's bytes, those that it came in if it came in any."""
    return row.data if isinstance(row, RowHead) else encode_row(row)


def canonical(row: RowBytes) -> bytes:
    """Return the bytes that a row has when it is written anew.

    Raises:
        msgspec.MsgspecError: it is no experience.
    """
    return encode_row(_decode_row(row))


def read_packed(rows: Sequence[RowBytes], read: Callable[[Packed], T]) -> tuple[Packed, T]:
    """Return rows in one buffer, in canonical form, and what a function makes of them.

    Raises:
        pyarrow.ArrowInvalid: a whole number has more than 64 bits.
        msgspec.MsgspecError: a row is no experience.
    """
    packed = pack(rows)
    try:
        return packed, read(packed)
    except NotCanonical:
        packed = pack([canonical(row) for row in rows])
    try:
        return packed, read(packed)
    except NotCanonical as error:
        msg = "whole numbers must fit 64 bits"
        raise pa.ArrowInvalid(msg) from error


def walk(cursor: Cursor, packed: Packed) -> Iterator[tuple[str, Where | None]]:
    """Yield every column's name and the rows that have it, with the cursor at its values.

    Whoever asks reads the values (`Cursor.text` and the like) before the next name. The column
    ``language_used`` has none: its rows are those that have a language.

    Raises:
        NotCanonical: the rows are not in the form that `encode_row` gives them.
    """
    cursor.begin(ALL, "map")  # its size follows: every key is met, and the row ends behind them
    cursor.expect(TYPE)
    cursor.expect(TAG)
    for name, key, required in _FIELDS:
        where: Where | None = ALL
        if required:
            cursor.expect(key)
        else:
            where = cursor.find(key)
        if name == "origin":
            if (cursor.begin(ALL, "array") != 3).any():
                raise NotCanonical
            for part in ("origin_partition", "origin_offset", "origin_index"):
                yield part, ALL
        elif name == "language":
            yield from _walk_language(cursor, where)
        else:
            yield name, where
    if (cursor.at != packed.starts + packed.sizes).any():
        raise NotCanonical


def _walk_language(cursor: Cursor, where: Where | None) -> Iterator[tuple[str, Where | None]]:
    yield "language_used", where
    left = np.zeros(cursor.n, np.int64)
    if where is not None:
        left[where] = cursor.begin(where, "map")
    for name, key in _LANGUAGE:
        some = None if where is None else cursor.find(key)
        if some is not None:  # of a language: no field of a row has such a name
            left[some] -= 1
        yield name, some
    if left.any():
        raise NotCanonical
