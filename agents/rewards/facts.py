"""Facts as formulas read them: of one outcome, or of many at once as columns.

A formula is written once over `Facts`. With `OneFacts` it computes with Python's floats, with
`FactColumns` with numpy's; both do the same double operations in the same order, so that the
results are equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
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


def clip(value: float) -> float:
    """Return a value bounded to [-1, 1]; 0 for what is no number, as infinities may leave it."""
    return 0.0 if math.isnan(value) else max(-1.0, min(1.0, value))


def clip_columns(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values bounded as `clip` does."""
    bounded = np.minimum(1.0, values)
    np.maximum(-1.0, bounded, out=bounded)
    missing = np.isnan(bounded)
    if missing.any():
        bounded[missing] = 0.0
    return bounded
