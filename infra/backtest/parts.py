"""What each part of a reward contributes to it, for many decisions at once."""

import pyarrow as pa

from agents.rewards.fact_columns import FactColumns
from agents.rewards.rules import compile_reward
from infra.backtest.compare import Values
from schemas.rewards import Reward


def part_values(reward: Reward, facts: pa.ChunkedArray) -> dict[str, Values]:
    """Part -> [N] what it adds to the reward before that is clipped; none of `facts` is null."""
    found: dict[str, Values] = compile_reward(reward).part_columns(FactColumns.of_column(facts))
    return found
