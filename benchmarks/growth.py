"""Whether the cost of an event grows with the decisions that are open, or with the partitions.

    python -m benchmarks.growth                     # writes docs/images/growth.png

First the rewards fold alone, with more and more decisions open, all in turn; then a worker on a
broker of its own, with as many events in more and more partitions. Cost is CPU time an event; flat
means that dearest and cheapest are within 20 % of their mean. Exit code 0 when both are flat.
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
from infra.memory import tune
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
ENGINE_ROUNDS = 3
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


def fold_when_told(n_open: int) -> None:
    """Open so many decisions; then, for each line on stdin, print the CPU time of an event, in us.

    Prints a line, too, when it is ready.
    """
    tune()  # as in the processes
    stream = ManyOpen(n_open // DECISIONS_AN_ACTOR)
    bench = Bench()
    gc.freeze()
    for pack in stream.opening(n_open):
        bench.feed([pack])
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(rss, flush=True)
    first = n_open
    for _ in sys.stdin:
        packs = list(stream.steady(first, STEADY, n_open))
        first += STEADY
        begun = time.process_time()
        bench.feed(packs)
        print((time.process_time() - begun) / (2 * STEADY) * 1e6, flush=True)


class Load:
    """As many events as asked for in a topic, to be folded by one worker after another."""

    def __init__(self, bootstrap: str, partitions: int, n_events: int) -> None:
        """Write them; half are decisions, half outcomes. What opens the first comes before."""
        self._bootstrap, self._partitions = bootstrap, partitions
        self._source = f"growth-{partitions}-{n_events}-events"
        self._n_workers = 0
        n_each, n_open = n_events // partitions // 2, ENGINE_ACTORS * DECISIONS_AN_ACTOR
        streams = [ManyOpen(ENGINE_ACTORS, p) for p in range(partitions)]
        packs = (
            (stream.partition, pack)
            for stream in streams
            for pack in itertools.chain(
                stream.opening(n_open), stream.steady(n_open, n_each, n_open)
            )
        )
        asyncio.run(prepare(bootstrap, self._source, self._source, partitions))
        self._n_records = asyncio.run(produce(bootstrap, self._source, packs))

    def cpu_s(self) -> float:
        """Return the CPU seconds of a new worker from its start until it has folded all."""
        app = f"{self._source}-{self._n_workers}"
        self._n_workers += 1
        asyncio.run(prepare(self._bootstrap, app, self._source, self._partitions))
        done = run_worker_process(app, self._source, self._bootstrap, self._n_records)
        cpu_s: float = done["cpu_s"]
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


class Opened:
    """A process with many decisions open: of its own, so that it inherits no other's memory."""

    def __init__(self, n_open: int) -> None:
        """Open them; returns when all are."""
        self.n_open = n_open
        command = [sys.executable, "-m", "benchmarks.growth", "--one", str(n_open)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.rss_mb = int(self._line())
        self.costs: list[float] = []

    def measure(self) -> None:
        """Take one more figure."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write("\n")
        stdin.flush()
        self.costs.append(float(self._line()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def with_open(sizes: list[int]) -> list[dict[str, Any]]:
    """Measure all sizes in turn, so that what disturbs the machine disturbs each alike."""
    opened = [Opened(n) for n in sizes]
    for one in [one for _ in range(ROUNDS) for one in opened]:
        one.measure()
    results = []
    for one in opened:
        one.close()
        cost = round(median(one.costs), 2)
        results.append({"open": one.n_open, "us_an_event": cost, "rss_mb": one.rss_mb})
        say(f"  {results[-1]}")
    return results


def with_partitions(counts: list[int]) -> list[dict[str, Any]]:
    """Measure each count of partitions on one broker, in turn, some rounds of all."""
    folder = Path(tempfile.mkdtemp(prefix="growth-", dir=ROOT / ".grindstone"))
    broker = LocalBroker(folder)
    costs: dict[int, list[float]] = {n: [] for n in counts}
    few, many = ENGINE_EVENTS
    try:
        bootstrap = broker.start()
        loads = {n: [Load(bootstrap, n, events) for events in ENGINE_EVENTS] for n in counts}
        for n in [n for _ in range(ENGINE_ROUNDS) for n in counts]:
            less, more = (load.cpu_s() for load in loads[n])
            costs[n].append((more - less) / (many - few) * 1e6)
            say(f"  {n} partitions: {costs[n][-1]:.1f} us an event")
    finally:
        broker.wipe()
        shutil.rmtree(folder, ignore_errors=True)
    return [{"partitions": n, "us_an_event": round(median(us), 2)} for n, us in costs.items()]


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
        fold_when_told(options.one)
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
