"""The facts of many outcomes as columns, read from Arrow a block at a time.

A block's numbers stay in the processor's cache while a formula goes over them, which is most of the
speed. The rest comes from how outcomes are written: nearly always each has the same facts in the
same order, and then a fact is every k-th number of the column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from agents.rewards.facts import Number, log1p_of_many

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]

BLOCK_ROWS = 16_384
"""Rows of a block: a formula's columns then fit the second-level cache together."""
_LOOK = 16_384
"""Offsets compared at a time, for the same reason."""


class _Entries(Protocol):
    """The entries of all rows, each a name and a number."""

    def find(self, name: str, begin: int, end: int) -> tuple[Places | None, Floats]:
        """Return the places of the rows of ``[begin, end)`` that have a fact, and its values.

        Places count from `begin`; None says that it is all of them.
        """
        ...


class _Uniform:
    """Rows that have all the same names in the same order, or none."""

    def __init__(self, names: list[str], rows: Places | None, values: Floats) -> None:
        """Take the rows that have any, None for all, and their values [rows, names]."""
        self._at = {name: i for i, name in enumerate(names)}  # of a name told twice, the last
        self._rows, self._values = rows, values

    def find(self, name: str, begin: int, end: int) -> tuple[Places | None, Floats]:
        """Return a fact's places and values."""
        at = self._at.get(name)
        if at is None:
            return np.empty(0, np.int64), np.empty(0)
        if self._rows is None:
            return None, self._values[begin:end, at]
        low, high = np.searchsorted(self._rows, (begin, end))
        return self._rows[low:high] - begin, self._values[low:high, at]


class _Mixed:
    """Rows of any names."""

    def __init__(self, offsets: Places, names: pa.Array, values: Floats) -> None:
        coded = names.dictionary_encode()
        self._codes = coded.indices.to_numpy(zero_copy_only=False)
        self._code_of = {name: i for i, name in enumerate(coded.dictionary.to_pylist())}
        self._rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        self._offsets, self._values = offsets, values

    def find(self, name: str, begin: int, end: int) -> tuple[Places | None, Floats]:
        """Return a fact's places and values."""
        code = self._code_of.get(name)
        if code is None:
            return np.empty(0, np.int64), np.empty(0)
        low, high = self._offsets[begin], self._offsets[end]
        places = np.flatnonzero(self._codes[low:high] == code)
        return self._rows[low:high][places] - begin, self._values[low:high][places]


class FactColumns:
    """The facts of N outcomes; each is a column, made when it is first asked for."""

    def __init__(self, maps: pa.MapArray, entries: _Entries, begin: int, end: int) -> None:
        self.n = end - begin
        self._maps, self._entries, self._begin, self._end = maps, entries, begin, end
        self._known: dict[str, tuple[Places | None, Floats]] = {}

    @classmethod
    def of_column(cls, column: pa.ChunkedArray | pa.MapArray) -> FactColumns:
        """Return the facts of an Arrow column of type map<string, double>; null has no facts."""
        maps = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if isinstance(maps, pa.ChunkedArray):  # no chunks
            maps = pa.array([], type=column.type)
        if maps.null_count:  # a null may have entries behind it; a copy has none
            maps = maps.take(pa.array(np.arange(len(maps))))
        return cls(maps, _entries(maps), 0, len(maps))

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[tuple[slice, FactColumns]]:
        """Yield where each block of rows is, and its facts."""
        for at in range(0, self.n, rows):
            end = min(at + rows, self.n)
            begin = self._begin + at
            block = FactColumns(self._maps, self._entries, begin, self._begin + end)
            yield slice(at, end), block

    def rows(self) -> Iterator[dict[str, float]]:
        """Yield the facts row by row, for what has no column form."""
        for row in self._maps[self._begin : self._end]:
            yield dict(row.as_py() or ())

    def get(self, name: str, default: float = 0.0) -> Floats:
        """Return a fact of every row, or `default`."""
        places, values = self._find(name)
        if places is None:
            return values
        column = np.full(self.n, default)
        column[places] = values
        return column

    def has(self, name: str) -> Flags:
        """Return whether it is there, row by row."""
        places, _ = self._find(name)
        flags = np.full(self.n, places is None)
        if places is not None:
            flags[places] = True
        return flags

    def where(self, flag: Flags, then: Number, other: Number) -> Number:
        """Return one of two, row by row."""
        return np.where(flag, then, other)

    def least(self, one: Number, other: Number) -> Number:
        """Return the smaller one, row by row."""
        return np.minimum(one, other)

    def most(self, one: Number, other: Number) -> Number:
        """Return the larger one, row by row."""
        return np.maximum(one, other)

    def log1p(self, value: Number) -> Number:
        """Return log(1 + value), row by row."""
        return log1p_of_many(value)

    def _find(self, name: str) -> tuple[Places | None, Floats]:
        found = self._known.get(name)
        if found is None:
            places, values = self._entries.find(name, self._begin, self._end)
            found = self._known[name] = places, values
        return found


def _entries(maps: pa.MapArray) -> _Entries:
    if not len(maps):
        return _Uniform([], None, np.empty((0, 0)))
    offsets = maps.offsets.to_numpy()
    begin, n = int(offsets[0]), int(offsets[-1] - offsets[0])
    names, values = maps.keys.slice(begin, n), maps.items.slice(begin, n)
    numbers: Floats = values.to_numpy(zero_copy_only=False)
    lengths = offsets[1:] - offsets[:-1]
    width, least = int(lengths.max()), int(lengths.min())
    even = least == width or bool(((lengths == width) | (lengths == 0)).all())
    if width and even and _repeats(names, width):
        rows = None if least else np.flatnonzero(lengths)
        return _Uniform(names[:width].to_pylist(), rows, numbers.reshape(-1, width))
    return _Mixed((offsets - begin).astype(np.int64), names, numbers)


def _repeats(names: pa.Array, width: int) -> bool:
    """Return whether texts repeat after the first `width` of them, by a look at their bytes."""
    if names.type != pa.string():
        return False
    _, offset_bytes, text = names.buffers()
    offsets = np.frombuffer(offset_bytes, np.int32)[names.offset : names.offset + len(names) + 1]
    begin, step, end = int(offsets[0]), int(offsets[width] - offsets[0]), int(offsets[-1])
    for at in range(0, len(names) - width + 1, _LOOK):
        later = offsets[at + width : at + width + _LOOK]
        if not (later - offsets[at : at + len(later)] == step).all():
            return False
    rest = end - begin - step
    same: bool = text.slice(begin + step, rest).equals(text.slice(begin, rest))
    return same
