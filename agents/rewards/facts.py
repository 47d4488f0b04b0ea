"""Facts as formulas read them: of one outcome, or of many at once as columns.

A formula is written once over `Facts`. With `OneFacts` it computes with Python's floats, with
`FactColumns` with numpy's; both do the same double operations in the same order, so that the
results are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
        """Return log(1 + value)."""
        return log1p_of_one(value)


_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LOG = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
"""Of log((1 + s) / (1 - s)) = 2s + s * polynomial(s * s); fdlibm, e_log.c."""


def log1p_of_one(value: float) -> float:
    """Return log(1 + value) of a number that is at least 0."""
    found: float = _log1p(value, math.frexp, lambda flag, then, other: then if flag else other)
    return found


def log1p_of_many(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(1 + value) of numbers that are at least 0."""
    found: NDArray[np.float64] = _log1p(values, np.frexp, np.where)
    return found


def _log1p(x: Number, frexp: Callable[..., Any], where: Callable[..., Any]) -> Number:
    """Return log(1 + x) by operations that IEEE 754 rounds in one way.

    A library's logarithm differs in the last bit between processors and versions, and with it the
    digest of everything that was rewarded by it. Right within 2 units of the last place.
    """
    u = 1.0 + x
    lost = where(x < 1.0, x - (u - 1.0), 1.0 - (u - x)) / u  # what the rounding of u took
    m, e = frexp(u)
    low = m < 0.7071067811865476
    m, e = where(low, 2.0 * m, m), where(low, e - 1, e)
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    rest: Number = 0.0
    for factor in reversed(_LOG):
        rest = z * (factor + rest)
    half = 0.5 * f * f
    return e * _LN2_HIGH - ((half - (s * (half + rest) + (e * _LN2_LOW + lost))) - f)


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
