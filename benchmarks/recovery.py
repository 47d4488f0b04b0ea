"""How soon a rewards worker that was killed is back at work, with a million decisions open.

    python -m benchmarks.recovery                   # a million open, in 1 and in 4 partitions

Opens the decisions through the rewards agent on a broker of its own, kills the worker, waits until
its session is over, starts it again and takes the time from the start of the process to the first
batch that it has folded and committed. Exit code 0 when the median is within the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.many_open import DECISIONS_AN_ACTOR, ManyOpen, patient_game
from benchmarks.stream_rewards import TOPICS, rewards_engine
from benchmarks.stream_worker import cpu_s
from infra.kafka.broker import LocalBroker
from schemas.kafka import KafkaSettings
from schemas.topics import TopicSpec
from streams.admin import ensure_topics
from streams.engine import EngineStats
from streams.engine.records import PartitionFold, Table
from streams.faust_app import FoldApp, build_app, run_worker

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "recovery.json"
LIMIT_S = 5.0
SESSION_S = 10.0
LOOK_S = 0.01
FETCH_BYTES = 4_000_000
OPENING_LIMIT_S = 600.0


def make_fold(partition: int, table: Table) -> PartitionFold:
    """Return the rewards fold of a partition, for a game that waits long."""
    from agents.rewards.fold import RewardsFold

    game = patient_game()
    return RewardsFold(partition, table, {game.name: game}, TOPICS)


# -- the worker's side


async def work(app_name: str, source: str, bootstrap: str, records: int, spawned: float) -> None:
    """Run until `records` of the source are committed, then tell when what was reached and die."""
    logging.basicConfig(level=logging.WARNING)
    settings = rewards_engine(app_name, source, "", FETCH_BYTES)
    app = build_app(settings, KafkaSettings(bootstrap_servers=bootstrap), make_fold)
    watch = asyncio.create_task(_watch(app, records, spawned))
    await run_worker(app)
    await watch


async def _watch(app: FoldApp, records: int, spawned: float) -> None:
    started, ready, ready_cpu = time.time(), None, 0.0
    while True:
        stats: EngineStats = app.engine.stats()
        if ready is None and stats.partitions and not stats.recovering:
            ready, ready_cpu = time.time(), cpu_s()
        if stats.records >= records:
            break
        await asyncio.sleep(LOOK_S)
    report = {
        "main_s": round(started - spawned, 2),
        "recovered_s": round((ready or time.time()) - spawned, 2),
        "at_work_s": round(time.time() - spawned, 2),
        "ready_cpu_s": round(ready_cpu, 2),
        "cpu_s": round(cpu_s(), 2),
        "keys": stats.keys,
        "changelog_records": stats.recovered_records,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(report), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


# -- the driver's side


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


async def produce(bootstrap: str, source: str, packs: Iterable[tuple[int, bytes]]) -> int:
    """Write packs, each to its partition; returns how many records there are."""
    n = 0
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=20, max_batch_size=900_000
    ) as producer:
        for partition, pack in packs:
            await producer.send(source, pack, partition=partition)
            n += 1
        await producer.flush()
    return n


async def one_more(bootstrap: str, source: str, streams: list[ManyOpen], at: int) -> None:
    """Write one more decision to each partition, for the recovered worker to fold."""
    from schemas.codec import encode_event

    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for stream in streams:
            event = encode_event(stream.decision(at))
            await producer.send_and_wait(source, event, partition=stream.partition)


def run_worker_process(app: str, source: str, bootstrap: str, records: int) -> dict[str, Any]:
    """Run a worker until so many records are committed; returns what it printed.

    Raises:
        RuntimeError: it ended without a word.
    """
    command = [
        sys.executable, "-m", "benchmarks.recovery", "--worker", app, source, bootstrap,
        str(records), str(time.time()),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=OPENING_LIMIT_S, check=False
    )
    if not done.stdout.strip():
        msg = f"the worker must print a line; got exit {done.returncode}"
        raise RuntimeError(msg)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


async def prepare(bootstrap: str, app: str, source: str, partitions: int) -> None:
    """Make the topics."""
    specs = [
        TopicSpec(name=source, partitions=partitions, cleanup="delete"),
        TopicSpec(name=TOPICS.experiences, partitions=4, cleanup="delete"),
        TopicSpec(name=TOPICS.dead_letters, partitions=1, cleanup="delete"),
        TopicSpec(name=f"{app}-changelog", partitions=partitions, cleanup="compact"),
    ]
    await ensure_topics(KafkaSettings(bootstrap_servers=bootstrap), specs)


def measure(
    bootstrap: str, n_open: int, partitions: int, repeats: int, an_actor: int
) -> dict[str, Any]:
    """Open the decisions once, then kill and recover some times."""
    app, source = f"recovery-{partitions}-{an_actor}", f"recovery-{partitions}-{an_actor}-events"
    n_each = n_open // partitions
    streams = [ManyOpen(max(1, n_each // an_actor), p) for p in range(partitions)]
    asyncio.run(prepare(bootstrap, app, source, partitions))
    say(f"opening {n_open:,} decisions in {partitions} partitions, {an_actor} an actor")
    packs = ((s.partition, pack) for s in streams for pack in s.opening(n_each))
    n_records = asyncio.run(produce(bootstrap, source, packs))
    opening = run_worker_process(app, source, bootstrap, n_records)
    runs = []
    for repeat in range(repeats):
        asyncio.run(one_more(bootstrap, source, streams, n_each + repeat))
        time.sleep(SESSION_S + 1)  # the killed worker's session; not what is measured
        runs.append(run_worker_process(app, source, bootstrap, partitions))
        say(f"  {runs[-1]}")
    return {
        "open": n_open,
        "partitions": partitions,
        "decisions_an_actor": an_actor,
        "opening_cpu_s": opening["cpu_s"],
        "at_work_s": median(r["at_work_s"] for r in runs),
        "cpu_s": median(r["cpu_s"] for r in runs),
        "runs": runs,
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--open", type=int, default=1_000_000)
    parser.add_argument("--partitions", default="4,1", help="numbers of partitions, with commas")
    parser.add_argument("--an-actor", type=int, default=DECISIONS_AN_ACTOR)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Measure and print, or be the worker."""
    options = arguments()
    if options.worker:
        app, source, bootstrap, records, spawned = options.worker
        asyncio.run(work(app, source, bootstrap, int(records), float(spawned)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="recovery-", dir=ROOT / ".grindstone"))
    broker = LocalBroker(folder)
    try:
        bootstrap = broker.start()
        results = [
            measure(bootstrap, options.open, int(p), options.repeats, options.an_actor)
            for p in options.partitions.split(",")
        ]
    except KeyboardInterrupt:
        say("benchmarks.recovery: interrupted")
        return 130
    finally:
        broker.wipe()
        shutil.rmtree(folder, ignore_errors=True)
    options.result.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(results))
    for r in results:
        if not options.json:
            print(
                f"{r['open']:,} open in {r['partitions']} partitions: back at work after "
                f"{r['at_work_s']:.2f} s, of that {r['cpu_s']:.2f} s CPU (limit {LIMIT_S:.0f} s)"
            )
    return 0 if all(r["at_work_s"] <= LIMIT_S for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
