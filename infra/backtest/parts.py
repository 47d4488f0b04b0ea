"""What each part of a reward contributes to it, for many decisions at once."""

from collections.abc import Mapping, Sequence

import numpy as np

from infra.backtest.compare import Values
from schemas.game import Reward

Facts = Mapping[str, float] | None


def part_values(reward: Reward, facts: Sequence[Facts]) -> dict[str, Values]:
    """Part -> [N] what it adds to the reward before that is clipped; NaN without an outcome."""
    found: dict[str, Values] = {}
    for name, weight in reward.weights.items():
        told = [np.nan if f is None else f.get(name, 0.0) for f in facts]
        found[name] = reward.scale * weight * np.array(told, dtype=np.float64)
    return found
