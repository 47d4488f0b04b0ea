"""Rewards on columns against rewards one event at a time, from the same stored rows.

    python -m benchmarks.rewards_columns [--rows 200000] [--json]

Both sides begin with the Arrow column of facts that a window holds and end with the same rewards,
which are compared bit for bit. The plain way makes a dict of each row and calls a plain function of
Python with it. What that function costs alone, from dicts that are there already, and what the rule
of the fold costs, are printed beside it. Figures are medians of rows per CPU second.

Exit codes: 0 equal and at least 100 times as fast, 1 not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from agents.rewards.fact_columns import FactColumns
from agents.rewards.rules import compile_reward
from schemas.rewards import Reward

RESULT = Path(__file__).parent / "results" / "rewards_columns.json"
TARGET = 100.0
FORMULA = "battle@2"
TURNS = 5


def plain_battle(facts: Mapping[str, float]) -> float:
    """Return `battle@2` as one would write it by hand."""
    get = facts.get
    defeat = get("defeat", 0.0)
    result = 0.5 * get("victory", 0.0) - 0.5 * defeat
    ratio = (get("enemy_casualties", 0.0) + 1) / (max(get("own_casualties", 0.0), 0.0) + 1)
    reward = result + min(ratio / 10, 0.3) + min(get("resources_gained", 0.0) / 100_000, 0.2)
    return max(-1.0, min(1.0, min(reward, 0.0 if defeat > 0 else 1.0)))


def battles(n: int, seed: int = 7) -> list[dict[str, float]]:
    """Return facts of outcomes."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        won = rng.random() < 0.5
        rows.append(
            {
                "victory": float(won),
                "defeat": float(not won),
                "enemy_casualties": float(rng.randrange(100)),
                "own_casualties": float(rng.randrange(60)),
                "resources_gained": float(rng.randrange(40_000)),
            }
        )
    return rows


def stored(rows: list[dict[str, float]]) -> pa.MapArray:
    """Return the column that holds the facts in a window."""
    return pa.array([list(row.items()) for row in rows], pa.map_(pa.string(), pa.float64()))


def one_by_one(column: pa.MapArray) -> list[float]:
    """Return the rewards of stored rows, the plain way."""
    return [plain_battle(dict(row)) for row in column.to_pylist()]


def timed(work: Callable[[], object], n: int) -> float:
    """Return rows per CPU second of one run."""
    begun = time.process_time()
    work()
    return n / (time.process_time() - begun)


def measure(n: int) -> tuple[dict[str, float], bool]:
    """Return rows per CPU second by way, and whether all ways gave the same bits."""
    dicts = battles(n)
    uniform = stored(dicts)
    mixed = stored([{k: v for k, v in row.items() if v} for row in dicts])
    rule = compile_reward(Reward(formula=FORMULA))
    ways: dict[str, Callable[[], object]] = {
        "rewards on columns": lambda: rule.columns(FactColumns.of_column(uniform)),
        "rewards on columns, facts differ": lambda: rule.columns(FactColumns.of_column(mixed)),
        "rewards per event": lambda: one_by_one(uniform),
        "rewards per event, dicts at hand": lambda: [plain_battle(row) for row in dicts],
        "rewards by the fold's rule": lambda: [rule.value(row) for row in dicts],
    }
    results = [np.asarray(work()).tobytes() for work in ways.values()]
    turns = [[timed(work, n) for work in ways.values()] for _ in range(TURNS)]
    figures = zip(ways, zip(*turns, strict=True), strict=True)
    return {name: round(median(f)) for name, f in figures}, len(set(results)) == 1


def main() -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    rows, equal = measure(options.rows)
    times = rows["rewards on columns"] / rows["rewards per event"]
    found = {
        "rows": rows,
        "n_rows": options.rows,
        "formula": FORMULA,
        "equal": equal,
        "times": round(times, 1),
        "target": TARGET,
    }
    options.result.parent.mkdir(parents=True, exist_ok=True)
    options.result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(found))
    else:
        for name, figure in rows.items():
            print(f"{name:34} {figure:>12,} rows per CPU s")
        print(f"outputs {'equal' if equal else 'DIFFER'}; {times:.0f} times, target {TARGET:.0f}")
    return 0 if equal and times >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
