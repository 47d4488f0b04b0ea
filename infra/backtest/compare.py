"""Numbers about rewards: distributions, and how two scorings of the same decisions differ."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CLIP = 1.0
_FENCE = 3.0
"""Interquartile ranges from the quartiles at which a value is an outlier: Tukey's far out."""


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """A reward's values; moments and quantiles are of the finite ones, None where there is none."""

    n: int
    n_nan: int = 0
    n_inf: int = 0
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    p05: float | None = None
    p25: float | None = None
    median: float | None = None
    p75: float | None = None
    p95: float | None = None
    max: float | None = None
    zeros: float | None = None
    """Share that is exactly 0: the reward's sparsity."""
    clipped: float | None = None
    """Share at -1 or 1, or beyond."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How a scoring differs from the one before, over decisions that both have."""

    n: int
    changed: float
    """Share whose value differs."""
    flipped: float
    """Share whose sign turned from plus to minus or back."""
    mean: float
    mean_abs: float
    spearman: float | None
    """Rank correlation; None where one side is constant."""


def distribution(values: Values) -> Distribution:
    """The distribution of values [N]."""
    finite = values[np.isfinite(values)]
    n_nan, n_inf = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    if not len(finite):
        return Distribution(n=len(values), n_nan=n_nan, n_inf=n_inf)
    p05, p25, median, p75, p95 = (float(q) for q in np.quantile(finite, _QUANTILES))
    return Distribution(
        n=len(values),
        n_nan=n_nan,
        n_inf=n_inf,
        p05=p05,
        p25=p25,
        median=median,
        p75=p75,
        p95=p95,
        mean=float(finite.mean()),
        std=float(finite.std()),
        min=float(finite.min()),
        max=float(finite.max()),
        zeros=float((finite == 0).mean()),
        clipped=float((np.abs(finite) >= CLIP).mean()),
    )


def change(before: Values, after: Values) -> Change:
    """How `after` differs from `before`, both [N] of the same decisions in the same order."""
    n = len(before)
    if not n:
        return Change(n=0, changed=0.0, flipped=0.0, mean=0.0, mean_abs=0.0, spearman=None)
    difference = after - before
    return Change(
        n=n,
        changed=float((difference != 0).mean()),
        flipped=float((np.sign(before) * np.sign(after) < 0).mean()),
        mean=float(difference.mean()),
        mean_abs=float(np.abs(difference).mean()),
        spearman=spearman(before, after),
    )


def ranks(values: Values) -> Values:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Values = (last - (counts - 1) / 2)[place]
    return mean


def spearman(a: Values, b: Values) -> float | None:
    """Spearman's rank correlation: Pearson's of the ranks, ties sharing theirs.

    None where one side is constant or holds what is no finite number: it is not defined there.
    """
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or len(a) < 2:
        return None
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale else None


def outliers(values: Values) -> NDArray[np.bool_]:
    """Which of the values [N] lie far out: beyond the quartiles by three times their distance.

    The quartiles are those of the values that are not 0, for most rewards are sparse. What is no
    finite number lies far out.
    """
    finite = np.isfinite(values)
    told = values[finite & (values != 0)]
    if len(told) < 4:
        return ~finite
    low, high = np.quantile(told, [0.25, 0.75])
    reach = _FENCE * (high - low)
    far = (values < low - reach) | (values > high + reach)
    found: NDArray[np.bool_] = ~finite | (far & (values != 0))
    return found


def edges(*columns: Values, bins: int = 40) -> Values:
    """Edges of bins that hold all finite values of the columns."""
    finite = [c[np.isfinite(c)] for c in columns]
    low = min((float(c.min()) for c in finite if len(c)), default=-1.0)
    high = max((float(c.max()) for c in finite if len(c)), default=1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    found: Values = np.linspace(low, high, bins + 1)
    return found


def as_document(found: msgspec.Struct) -> dict[str, Any]:
    """A struct of numbers for scripts."""
    document: dict[str, Any] = msgspec.to_builtins(found)
    return document
