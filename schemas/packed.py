"""Encoded experience in one buffer: the bytes that its digest is computed over.

A row's canonical bytes are what its digest is computed over, so one buffer of them serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from schemas.compiled import AHEAD, Bytes, Ints
from schemas.records import Experience, RowHead, decoded, encode_row
from schemas.spans import append_rows
from schemas.walk import NotCanonical, Rows, walk

_decode_row = msgspec.msgpack.Decoder(Experience).decode

CHUNK_BYTES = 8 << 20
"""So much is made into columns at once: memory that is used again costs less than new memory."""
_N_PREFIX = 4
_PREFIX = bytes(_N_PREFIX)
_PADDING = bytes(AHEAD)

RowBytes = bytes | msgspec.Raw
T = TypeVar("T")


class Packed(msgspec.Struct, frozen=True):
    """Rows one behind the other, each behind its length in 4 bytes, little-endian."""

    data: Bytes
    starts: Ints
    sizes: Ints

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> bytes:
        """Return a row's bytes."""
        start = self.starts[row]
        return bytes(self.data[start : start + self.sizes[row]])

    @property
    def stream(self) -> memoryview:
        """The bytes that a digest of these rows takes."""
        end = int(self.starts[-1] + self.sizes[-1])
        return self.data[int(self.starts[0]) - _N_PREFIX : end].data

    def chunks(self) -> Iterator[Packed]:
        """Yield the rows in parts of `CHUNK_BYTES` or a row more."""
        for part in _parts(self.sizes, CHUNK_BYTES):
            yield self._part(part)

    def _part(self, part: slice) -> Packed:
        """Return some of the rows, from the beginning of a buffer: spans in it have 32 bits."""
        first = int(self.starts[part.start]) - _N_PREFIX
        starts, sizes = self.starts[part] - first, self.sizes[part]
        behind = first + int(starts[-1] + sizes[-1]) + AHEAD
        return Packed(self.data[first:behind], starts, sizes)


def _parts(sizes: Ints, n_bytes: int) -> Iterator[slice]:
    """Yield which rows make a part, of so many bytes or a row more; later ones of `CHUNK_BYTES`."""
    ends = np.cumsum(sizes)
    begin = before = 0
    while begin < len(sizes):
        end = int(np.searchsorted(ends, before + n_bytes)) + 1
        yield slice(begin, end)
        begin, before, n_bytes = end, int(ends[min(end, len(sizes)) - 1]), CHUNK_BYTES


class PackedRows:
    """Rows that come in one after the other, packed."""

    def __init__(self, n_expected: int) -> None:
        self._n_expected = n_expected
        self._n = 0
        self._full: list[Packed] = []
        self._begin()

    def __len__(self) -> int:
        return self._n

    def add(self, source: Bytes, starts: Ints, sizes: Ints, rows: Ints) -> None:
        """Take the rows of these numbers, of those that begin at `starts` of some bytes."""
        for part in _parts(sizes[rows], CHUNK_BYTES - self._n_bytes):
            self._append(source, starts, sizes, rows[part])

    def chunks(self) -> Iterator[Packed]:
        """Yield the rows in the parts that `Packed.chunks` makes of them, however they came."""
        yield from self._full
        if self._starts:
            yield self._chunk()

    def _begin(self) -> None:
        self._data = np.empty(0, np.uint8)
        self._starts: list[Ints] = []
        self._sizes: list[Ints] = []
        self._end = self._n_bytes = 0

    def _append(self, source: Bytes, starts: Ints, sizes: Ints, rows: Ints) -> None:
        of = sizes[rows]
        n_bytes = int(of.sum())
        self._make_room(n_bytes + _N_PREFIX * len(rows), len(rows))
        begins = np.empty(len(rows), np.int64)
        append_rows(source, starts, sizes, rows, self._data[self._end :], begins)
        self._starts.append(begins + self._end)
        self._sizes.append(of)
        self._end += n_bytes + _N_PREFIX * len(rows)
        self._n += len(rows)
        self._n_bytes += n_bytes
        if self._n_bytes >= CHUNK_BYTES:
            self._full.append(self._chunk())
            self._begin()

    def _chunk(self) -> Packed:
        return Packed(self._data, np.concatenate(self._starts), np.concatenate(self._sizes))

    def _make_room(self, n_bytes: int, n_rows: int) -> None:
        """Have room for more bytes: at first for as many rows as are expected, of this size."""
        if self._end + n_bytes + AHEAD <= len(self._data):
            return
        likely = n_bytes * (self._n_expected - self._n) // n_rows * 17 // 16
        data = np.empty(
            self._end + n_bytes + AHEAD + min(max(likely, self._end), CHUNK_BYTES), np.uint8
        )
        data[: self._end] = self._data[: self._end]
        self._data = data


def pack(rows: Sequence[RowBytes]) -> Packed:
    """Return rows in one buffer; there must be one at least."""
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    data = bytearray(_PREFIX).join([b"", *rows, _PADDING])
    starts = np.cumsum(sizes + _N_PREFIX) - sizes
    prefix = np.ndarray((len(data) - 3,), "<u4", data, strides=(1,))
    prefix[starts - _N_PREFIX] = sizes
    return Packed(np.frombuffer(data, np.uint8), starts, sizes)


def row_bytes(row: Experience | RowHead) -> RowBytes:
    """Return a row's bytes, those that it came in if it came in any."""
    return row.data if isinstance(row, RowHead) else encode_row(row)


def canonical(row: RowBytes) -> bytes:
    """Return the bytes that a row has when it is written anew.

    Raises:
        msgspec.MsgspecError: it is no experience.
    """
    return encode_row(decoded(_decode_row, row))


def read_packed(packed: Packed, read: Callable[[Rows], T]) -> tuple[Packed, T]:
    """Return rows in canonical form, and what a function makes of what they say.

    Raises:
        pyarrow.ArrowInvalid: a whole number has more than 64 bits.
        msgspec.MsgspecError: a row is no experience.
    """
    try:
        return packed, _read(packed, read)
    except NotCanonical:
        packed = pack([canonical(packed[i]) for i in range(len(packed))])
    try:
        return packed, _read(packed, read)
    except NotCanonical as error:
        msg = "whole numbers must fit 64 bits"
        raise pa.ArrowInvalid(msg) from error


def _read(packed: Packed, read: Callable[[Rows], T]) -> T:
    return read(walk(packed.data, packed.starts, packed.sizes))
