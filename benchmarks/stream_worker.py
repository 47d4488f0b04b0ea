"""One contender: a fold under the Faust agent, exactly once, from the first record to the last.

    python -m benchmarks.stream_worker KIND BOOTSTRAP OUT_TOPIC

prints one JSON line: events, outputs, wall and CPU seconds, and both for the second half alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks.stream_fold import JoinFold
from benchmarks.stream_rewards import rewards_count, rewards_engine
from infra.memory import tune
from schemas.kafka import KafkaSettings
from schemas.topics import TopicSpec
from streams.admin import ensure_topics
from streams.engine import Effects, EngineSettings, Record
from streams.engine.records import FoldFactory, Table
from streams.faust_app import FoldApp, build_app, run_worker
from streams.reader import topic_spans

PARTITIONS = 4
FETCH_BYTES = 4_000_000
"""Of a partition at once: a batch is then as full as `batch_records` allows."""
LOOK_S = 0.02
SOURCES = {
    "single": "game-events",
    "packs": "game-events-packs",
    "single-whole": "game-events",
    "packs-whole": "game-events-packs",
    "rewards": "rewards-events",
}
"""``-whole`` also decodes the observation; ``rewards`` is the agent itself on its own events."""


def cpu_s() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Mark(msgspec.Struct):
    """A moment of the run."""

    n: int
    at: float
    cpu: float


class Run:
    """Counts what the folds of all partitions did, and when."""

    def __init__(self) -> None:
        self.folds: list[Any] = []
        self.marks: list[Mark] = []
        """At the first record and after each batch."""

    def mark(self) -> None:
        """Note how far the folds are."""
        n = sum(fold.n_events for fold in self.folds)
        self.marks.append(Mark(n, time.perf_counter(), cpu_s()))

    def report(self, kind: str) -> dict[str, Any]:
        """Return what the peers' own harness prints of a peer, from these marks."""
        first, last = self.marks[0], self.marks[-1]
        half = next(m for m in self.marks if m.n * 2 >= last.n)
        wall, cpu = last.at - first.at, last.cpu - first.cpu
        return {
            "peer": f"grindstone {kind}",
            "events": last.n,
            "outputs": sum(fold.n_rows for fold in self.folds),
            "sum": round(sum(fold.total for fold in self.folds), 6),
            "batches": len(self.marks) - 2,
            "wall_s": round(wall, 3),
            "cpu_s": round(cpu, 3),
            "cpu_process_s": round(last.cpu, 3),
            "ev_per_wall_s": round(last.n / wall),
            "ev_per_cpu_s": round(last.n / cpu),
            "ev_per_cpu_s_2nd_half": round((last.n - half.n) / (last.cpu - half.cpu)),
            "ev_per_wall_s_2nd_half": round((last.n - half.n) / (last.at - half.at)),
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


class Metered:
    """A fold that marks the run before its first batch and after each."""

    def __init__(self, fold: Any, run: Run) -> None:
        self._fold = fold
        self._run = run
        run.folds.append(fold)

    def fold(self, records: Sequence[Record]) -> Effects:
        """Fold and mark."""
        if not self._run.marks:
            self._run.mark()
        effects: Effects = self._fold.fold(records)
        self._run.mark()
        return effects


def engine_settings(kind: str, source: str, out: str) -> EngineSettings:
    """Return a new application of the engine: its group and changelog are of this run alone."""
    app = f"bench-{kind}-{os.getpid()}-{time.time_ns() // 1_000_000}"
    if kind == "rewards":
        return rewards_engine(app, source, out, FETCH_BYTES)
    return EngineSettings(
        app=app,
        source=source,
        changelog=f"{app}-changelog",
        outputs=(out,),
        partition_fetch_bytes=FETCH_BYTES,
        compression=None,  # as the peers
    )


def make_fold(kind: str, out: str, run: Run) -> FoldFactory:
    """Return what makes the fold of a partition."""

    def make(partition: int, table: Table) -> Metered:
        if kind == "rewards":
            return Metered(rewards_count(partition, table), run)
        form, _, whole = kind.partition("-")
        form_ = "packs" if form == "packs" else "single"
        return Metered(JoinFold(table, out, form_, whole=bool(whole)), run)  # type: ignore[arg-type]

    return make


async def measure(kind: str, kafka: KafkaSettings, out: str) -> dict[str, Any]:
    """Fold the whole source once; returns the report after the last commit."""
    source = SOURCES[kind]
    settings = engine_settings(kind, source, out)
    names = [out] if kind != "rewards" else list(settings.outputs)
    specs = [TopicSpec(name=n, partitions=PARTITIONS, cleanup="delete") for n in names]
    specs.append(TopicSpec(name=settings.changelog, partitions=PARTITIONS, cleanup="compact"))
    await ensure_topics(kafka, specs)
    spans = await topic_spans(kafka, source)
    total = sum(span.end - span.begin for span in spans.values())
    run = Run()
    app = build_app(settings, kafka, make_fold(kind, out, run))
    watch = asyncio.create_task(_watch(app, total, run))
    await run_worker(app)
    if not watch.done():
        watch.cancel()
        msg = f"{kind} must fold all of {source}; it was stopped before the end"
        raise RuntimeError(msg)
    return run.report(kind)


async def _watch(app: FoldApp, total: int, run: Run) -> None:
    """Mark the end once all records are committed, and stop the worker as SIGTERM does."""
    while app.engine.stats().records < total:
        await asyncio.sleep(LOOK_S)
    run.mark()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Measure one kind and print the line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=sorted(SOURCES))
    parser.add_argument("bootstrap")
    parser.add_argument("out", help="topic for the outputs; made if it is absent")
    options = parser.parse_args()
    kafka = KafkaSettings(bootstrap_servers=options.bootstrap)
    tune()  # as in the processes
    report = asyncio.run(measure(options.kind, kafka, options.out))
    print(json.dumps(report), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
