"""Whether the cost of an event grows with the decisions that are open, or with the partitions.

    python -m benchmarks.growth                     # writes docs/images/growth.png

First the rewards fold alone, with more and more decisions open; then a worker on a broker of its
own, with as many events in more and more partitions. Cost is CPU time an event; flat means that
dearest and cheapest are within 20 % of their mean. Exit code 0 when both are flat.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import matplotlib

from agents.rewards.fold import RewardsFold
from benchmarks.many_open import DECISIONS_AN_ACTOR, ManyOpen, patient_game
from benchmarks.recovery import prepare, produce, run_worker_process, say
from benchmarks.stream_rewards import TOPICS
from infra.kafka.broker import LocalBroker
from streams.engine import Record
from streams.engine.table import StateTable

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "growth.json"
PICTURE = ROOT / "docs" / "images" / "growth.png"
OPEN = [10_000, 30_000, 100_000, 300_000, 1_000_000]
PARTITIONS = [1, 2, 4, 8, 16]
FLAT = 0.2
STEADY = 20_000
"""Decisions, and as many outcomes, of one measurement."""
ROUNDS = 9
BATCH = 8
"""Packs a batch: 2,000 events."""
ENGINE_EVENTS = [80_000, 400_000]
"""Events of the two runs of a worker whose difference is the cost: what a start costs, and what is
folded before the last partition is assigned, is in both."""
ENGINE_ACTORS = 500
"""Of each partition, so that a partition's accounts are the same whatever lies beside it."""


class Bench:
    """A rewards fold on a table, as the engine would drive it."""

    def __init__(self) -> None:
        self.table = StateTable()
        game = patient_game()
        self.fold = RewardsFold(0, self.table.view, {game.name: game}, TOPICS)
        self.offset = 0

    def feed(self, packs: list[bytes]) -> None:
        """Fold the packs batch by batch."""
        for i in range(0, len(packs), BATCH):
            batch = packs[i : i + BATCH]
            now = 1 << 50  # later than any event, so that none is skewed
            records = [Record(0, self.offset + j, now, None, p) for j, p in enumerate(batch)]
            self.offset += len(batch)
            self.table.apply(self.fold.fold(records).states)


def cost_with_open(n_open: int) -> dict[str, Any]:
    """Return microseconds of CPU an event while `n_open` decisions are open."""
    stream = ManyOpen(n_open // DECISIONS_AN_ACTOR)
    bench = Bench()
    gc.freeze()
    for pack in stream.opening(n_open):
        bench.feed([pack])
    costs, first = [], n_open
    for _ in range(ROUNDS):
        packs = list(stream.steady(first, STEADY, n_open))
        first += STEADY
        begun = time.process_time()
        bench.feed(packs)
        costs.append((time.process_time() - begun) / (2 * STEADY) * 1e6)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"open": n_open, "us_an_event": round(median(costs), 2), "rss_mb": rss}


def cost_with_partitions(bootstrap: str, partitions: int) -> dict[str, Any]:
    """Return microseconds of CPU an event of a worker that reads so many partitions."""
    few, many = (worker_cpu_s(bootstrap, partitions, n) for n in ENGINE_EVENTS)
    cost = (many - few) / (ENGINE_EVENTS[1] - ENGINE_EVENTS[0]) * 1e6
    return {"partitions": partitions, "us_an_event": round(cost, 2)}


def worker_cpu_s(bootstrap: str, partitions: int, n_events: int) -> float:
    """Return the CPU seconds of a worker from its start until it has folded so many events.

    Half are decisions, half outcomes; what opens the first decisions comes before.
    """
    app = f"growth-{partitions}-{n_events}"
    source = f"{app}-events"
    n_each, n_open = n_events // partitions // 2, ENGINE_ACTORS * DECISIONS_AN_ACTOR
    asyncio.run(prepare(bootstrap, app, source, partitions))
    packs = (
        (p, pack)
        for p, stream in enumerate(ManyOpen(ENGINE_ACTORS, p) for p in range(partitions))
        for pack in itertools.chain(stream.opening(n_open), stream.steady(n_open, n_each, n_open))
    )
    n_records = asyncio.run(produce(bootstrap, source, packs))
    cpu_s: float = run_worker_process(app, source, bootstrap, n_records)["cpu_s"]
    return cpu_s


def spread(results: list[dict[str, Any]]) -> float:
    """Return how far the dearest or cheapest is from the mean, as a share of it."""
    costs: list[float] = [r["us_an_event"] for r in results]
    return max(abs(c - mean(costs)) for c in costs) / mean(costs)


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Plot both series with the band that counts as flat."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    n = len(results)
    figure, axes = pyplot.subplots(
        1, n, figsize=(4.5 * n, 3.4), layout="constrained", squeeze=False
    )
    labels = {"open": "open decisions", "partitions": "partitions of one worker"}
    for axis, (name, series) in zip(axes[0], results.items(), strict=True):
        costs = [r["us_an_event"] for r in series]
        middle = mean(costs)
        axis.axhspan(middle * (1 - FLAT), middle * (1 + FLAT), alpha=0.15, label="mean ± 20 %")
        axis.plot([r[name] for r in series], costs, marker="o")
        axis.set_xscale("log", base=10 if name == "open" else 2)
        axis.set_xlabel(labels[name])
        axis.set_ylabel("CPU µs an event")
        axis.set_ylim(0, max(costs) * 1.4)
        axis.legend(loc="lower right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def with_open(sizes: list[int]) -> list[dict[str, Any]]:
    """Measure each size in a process of its own, so that none inherits another's memory."""
    results = []
    for n_open in sizes:
        command = [sys.executable, "-m", "benchmarks.growth", "--one", str(n_open)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout))
        say(f"  {results[-1]}")
    return results


def with_partitions(counts: list[int]) -> list[dict[str, Any]]:
    """Measure each count of partitions on one broker."""
    folder = Path(tempfile.mkdtemp(prefix="growth-", dir=ROOT / ".grindstone"))
    broker = LocalBroker(folder)
    results = []
    try:
        bootstrap = broker.start()
        for partitions in counts:
            results.append(cost_with_partitions(bootstrap, partitions))
            say(f"  {results[-1]}")
    finally:
        broker.wipe()
        shutil.rmtree(folder, ignore_errors=True)
    return results


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--open", default=",".join(map(str, OPEN)), help="sizes, with commas")
    parser.add_argument("--partitions", default=",".join(map(str, PARTITIONS)))
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Measure, draw and print."""
    options = arguments()
    if options.one:
        print(json.dumps(cost_with_open(options.one)))
        return 0
    try:
        say("the fold alone, by open decisions")
        opened = with_open([int(n) for n in options.open.split(",")])
        say("a worker, by partitions")
        spread_out = with_partitions([int(n) for n in options.partitions.split(",")])
    except KeyboardInterrupt:
        say("benchmarks.growth: interrupted")
        return 130
    series = {"open": opened, "partitions": spread_out}
    spreads = {name: round(spread(results), 3) for name, results in series.items()}
    result = {"cores": os.cpu_count(), "series": series, "spread": spreads, "flat_within": FLAT}
    options.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(series, options.picture)
    if options.json:
        print(json.dumps(result))
    else:
        for name, share in spreads.items():
            print(f"{name}: cost an event within {share:.0%} of its mean (limit {FLAT:.0%})")
    return 0 if max(spreads.values()) <= FLAT else 1


if __name__ == "__main__":
    sys.exit(main())
