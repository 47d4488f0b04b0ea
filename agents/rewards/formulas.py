"""Rewards as formulas over facts: plain functions, hand-worked in the tests."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.game import Domain, Reward


def clip(value: float) -> float:
    """Return a value bounded to [-1, 1]."""
    return max(-1.0, min(1.0, value))


def immediate(reward: Reward, facts: Mapping[str, float]) -> float:
    """Return ``clip(scale * (bias + sum(weight * fact)))``; a fact that is absent counts as 0.

    Terms are added in the order of the description, so the result is the same everywhere.
    """
    total = reward.bias
    for name, weight in reward.weights.items():
        total += weight * facts.get(name, 0.0)
    return clip(reward.scale * total)


def long_term(domain: Domain, before: float | None, after: float | None) -> float:
    """Return the change of standing over the horizon in standing units, clipped to [-1, 1].

    0 where either standing is unknown. Both are standings *as of* a time, never the present ones.
    """
    if before is None or after is None:
        return 0.0
    return clip((after - before) / domain.standing_unit)
