"""What matches prove: the interval of a win rate, the gain of one policy on another."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from schemas.errors import refuse

Z95 = NormalDist().inv_cdf(0.975)


def wilson(wins: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a win rate (Wilson 1927), (0, 1) without matches.

    Raises:
        SchemaError: ``wins`` is negative or over ``n``.
    """
    if not 0 <= wins <= n:
        refuse("wins", f"from 0 to {n}, the matches played", str(wins))
    if n == 0:
        return 0.0, 1.0
    rate, z2 = wins / n, z * z
    centre = rate + z2 / (2 * n)
    spread = z * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    low, high = (centre - spread) / (1 + z2 / n), (centre + spread) / (1 + z2 / n)
    return max(low, 0.0), min(high, 1.0)


def paired_gain(ours: str, theirs: str, confidence: float) -> tuple[float, float]:
    """Return the gain in win rate on the same seeds, and its one-sided lower bound.

    The unit is the seed, not the match: the two sides of a seed are no independent matches. With
    seed gains ``d`` the bound is ``mean(d) - z * sd(d) / sqrt(seeds)``.

    Args:
        ours: W, D and L in seed order, the two sides of a seed side by side.
        theirs: the same for the policy compared with.
        confidence: one-sided, e.g. 0.95; 0.5 gives the mean itself.

    Raises:
        SchemaError: the two differ in length, are odd, or hold no match.
    """
    if len(ours) != len(theirs) or len(ours) % 2 or not ours:
        got = f"{len(ours)} and {len(theirs)}"
        refuse("outcomes", "the same even number of matches on both sides", got)
    won = [(a == "W") - (b == "W") for a, b in zip(ours, theirs, strict=True)]
    gains = [(won[i] + won[i + 1]) / 2 for i in range(0, len(won), 2)]
    n = len(gains)
    mean = sum(gains) / n
    variance = sum((g - mean) ** 2 for g in gains) / max(n - 1, 1)
    return mean, mean - NormalDist().inv_cdf(confidence) * sqrt(variance / n)
