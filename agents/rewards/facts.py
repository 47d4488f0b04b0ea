"""Facts as formulas read them: of one outcome, or of many at once as columns.

A formula is written once over `Facts`. With `OneFacts` it computes with Python's floats, with
`FactColumns` with numpy's; both do the same double operations in the same order, so that the
results are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Number = Any
"""A float, or float64 [N]; what one `Facts` gives, the other operations of it take."""
Flag = Any
"""A bool, or bool [N]."""


class Facts(Protocol):
    """Facts by name, and the operations that differ between one number and many."""

    def get(self, name: str, default: float = 0.0) -> Number:
        """Return a fact, or `default` where it is absent."""
        ...

    def has(self, name: str) -> Flag:
        """Return whether it is there."""
        ...

    def where(self, flag: Flag, then: Number, other: Number) -> Number:
        """Return `then` where `flag` holds, else `other`."""
        ...

    def least(self, one: Number, other: Number) -> Number:
        """Return the smaller one."""
        ...

    def most(self, one: Number, other: Number) -> Number:
        """Return the larger one."""
        ...

    def log1p(self, value: Number) -> Number:
        """Return log(1 + value)."""
        ...


class OneFacts:
    """The facts of one outcome."""

    __slots__ = ("_facts",)

    def __init__(self, facts: Mapping[str, float]) -> None:
        self._facts = facts

    def get(self, name: str, default: float = 0.0) -> float:
        """Return a fact, or `default`."""
        return self._facts.get(name, default)

    def has(self, name: str) -> bool:
        """Return whether it is there."""
        return name in self._facts

    def where(self, flag: bool, then: float, other: float) -> float:
        """Return one of two."""
        return then if flag else other

    def least(self, one: float, other: float) -> float:
        """Return the smaller one."""
        return min(one, other)

    def most(self, one: float, other: float) -> float:
        """Return the larger one."""
        return max(one, other)

    def log1p(self, value: float) -> float:
        """Return log(1 + value); numpy's, whose last bit may differ from Python's."""
        return float(np.log1p(value))


class FactColumns:
    """The facts of N outcomes, each name a column that is made when it is first asked for."""

    def __init__(
        self, n: int, find: Callable[[str], tuple[NDArray[np.int64], NDArray[np.float64]]]
    ) -> None:
        """Take the number of rows, and what finds a fact: its rows and its values there."""
        self.n = n
        self._maps: pa.MapArray | None = None
        self._find = find
        self._known: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}

    @classmethod
    def of_column(cls, column: pa.ChunkedArray | pa.MapArray) -> FactColumns:
        """Return the facts of an Arrow column of type map<string, double>; null has no facts."""
        maps = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if isinstance(maps, pa.ChunkedArray):  # no chunks
            maps = pa.array([], type=column.type)
        offsets = maps.offsets.to_numpy()
        begin, end = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
        rows = np.repeat(np.arange(len(maps)), np.diff(offsets))
        names = maps.keys.slice(begin, end - begin).dictionary_encode()
        codes = names.indices.to_numpy(zero_copy_only=False)
        values = maps.items.slice(begin, end - begin).to_numpy(zero_copy_only=False)
        code_of = {name: code for code, name in enumerate(names.dictionary.to_pylist())}

        def find(name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
            places = np.flatnonzero(codes == code_of.get(name, -1))
            return rows[places], values[places]

        columns = cls(len(maps), find)
        columns._maps = maps
        return columns

    def rows(self) -> Iterator[dict[str, float]]:
        """Yield the facts row by row, for what has no column form."""
        for row in self._maps or ():
            yield dict(row.as_py() or ())

    def get(self, name: str, default: float = 0.0) -> NDArray[np.float64]:
        """Return a fact of every row, or `default`."""
        values, there = self._column(name)
        return values if default == 0.0 else np.where(there, values, default)

    def has(self, name: str) -> NDArray[np.bool_]:
        """Return whether it is there, row by row."""
        return self._column(name)[1]

    def where(self, flag: NDArray[np.bool_], then: Number, other: Number) -> Number:
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
        return np.log1p(value)

    def _column(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        if name not in self._known:
            values, there = np.zeros(self.n), np.zeros(self.n, np.bool_)
            rows, found = self._find(name)
            values[rows], there[rows] = found, True
            self._known[name] = values, there
        return self._known[name]


def clip(value: float) -> float:
    """Return a value bounded to [-1, 1]; 0 for what is no number, as infinities may leave it."""
    return 0.0 if math.isnan(value) else max(-1.0, min(1.0, value))


def clip_columns(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values bounded as `clip` does."""
    bounded = np.maximum(-1.0, np.minimum(1.0, values))
    return np.where(np.isnan(bounded), 0.0, bounded)
