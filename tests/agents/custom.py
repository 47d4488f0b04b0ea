"""Reward functions as a user would write them."""

from __future__ import annotations

from collections.abc import Mapping

NOT_A_FUNCTION = 7


def bravery(facts: Mapping[str, float]) -> float:
    return facts["hits"] / 4 - facts.get("losses", 0.0)


def odd(facts: Mapping[str, float]) -> float:
    return float("nan") if facts["hits"] > 2 else 0.25


def two(facts: Mapping[str, float], other: float) -> float:
    return other


async def later(facts: Mapping[str, float]) -> float:
    return 0.0
