"""What each part of a reward contributes to it, for many decisions at once."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from agents.rewards.facts import FactColumns
from agents.rewards.rules import compile_reward
from infra.backtest.compare import Values
from schemas.rewards import Reward

Facts = Mapping[str, float] | None


def part_values(reward: Reward, facts: Sequence[Facts]) -> dict[str, Values]:
    """Part -> [N] what it adds to the reward before that is clipped; NaN without an outcome."""
    items = [None if f is None else list(f.items()) for f in facts]
    columns = FactColumns.of_column(pa.array(items, pa.map_(pa.string(), pa.float64())))
    silent = np.array([f is None for f in facts], np.bool_)
    parts = compile_reward(reward).part_columns(columns)
    return {name: np.where(silent, np.nan, values) for name, values in parts.items()}
