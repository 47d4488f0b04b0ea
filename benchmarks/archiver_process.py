"""The archiver as a whole process: from a broker's log to stored and announced windows.

    python -m benchmarks.archiver_process --windows 12

Writes settled rows of 1.1 KB into one partition of a broker of its own, in records of 48 as the
engine does, archives them and prints rows a CPU second of the archiver: Kafka's client and joining
its group, decoding, columns, digests, Parquet and announcements. `benchmarks.sink_copy` tells
what the steps cost without the client. Exit codes: 0 done, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from aiokafka import AIOKafkaProducer

from benchmarks.sink_rows import game_of, make_rows
from infra import logs
from infra.kafka.broker import LocalBroker
from infra.memory import tune
from schemas.kafka import KafkaSettings
from schemas.records import encode_rows
from schemas.topics import Topics
from streams.admin import ensure_topics
from streams.archiver.service import Archiver, ArchiverSettings
from streams.compression import use_fast_lz4

ROOT = Path(__file__).parents[1]
PACK = 48
SHAPE = "small"


async def write(kafka: KafkaSettings, topics: Topics, n_rows: int) -> int:
    """Fill the log; return how many bytes the rows have."""
    await ensure_topics(kafka, topics.specs(1))
    rows, n_bytes = make_rows(SHAPE, n_rows), 0
    use_fast_lz4()
    async with AIOKafkaProducer(**kafka.client(), compression_type="lz4") as producer:
        for i in range(0, n_rows, PACK):
            record = encode_rows(list(rows[i : i + PACK]))
            n_bytes += len(record)
            await producer.send(topics.experiences, record, partition=0)
        await producer.flush()
    return n_bytes


async def archive(kafka: KafkaSettings, topics: Topics, folder: Path, n_windows: int) -> float:
    """Run an archiver until it has sealed so many windows; return its CPU seconds."""
    game, stop = game_of(SHAPE), asyncio.Event()
    archiver = Archiver(ArchiverSettings(archive_url=str(folder)), kafka, topics, {SHAPE: game})
    begin = time.process_time()
    running = asyncio.create_task(archiver.run(stop))
    while archiver.stats.windows < n_windows and not running.done():
        await asyncio.sleep(0.05)
    cpu_s = time.process_time() - begin
    stop.set()
    await running
    return cpu_s


async def measure(bootstrap: str, folder: Path, n_windows: int, rounds: int) -> dict[str, float]:
    """Return the figures of the median round, and what was archived."""
    kafka, topics = KafkaSettings(bootstrap_servers=bootstrap), Topics("bench-")
    n_rows = n_windows * game_of(SHAPE).windows.max_rows
    n_bytes = await write(kafka, topics, n_rows)
    cpu_s = []
    for i in range(rounds):
        (folder / str(i)).mkdir()
        cpu_s.append(await archive(kafka, topics, folder / str(i), n_windows))
    cost_s = median(cpu_s)
    return {
        "rows": n_rows,
        "row_bytes": n_bytes / n_rows,
        "rows_per_cpu_s": n_rows / cost_s,
        "us_a_row": 1e6 * cost_s / n_rows,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archiver_process")
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    logs.configure("bench", "warning")
    tune(keep=True)
    folder = Path(tempfile.mkdtemp(prefix="archiver-", dir=ROOT / ".grindstone"))
    broker = LocalBroker(folder / "broker")
    try:
        found = asyncio.run(measure(broker.start(), folder, options.windows, options.rounds))
    except KeyboardInterrupt:
        print("benchmarks.archiver_process: interrupted", file=sys.stderr)
        return 130
    finally:
        broker.wipe()
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"archiver, rows of {found['row_bytes']:,.0f} bytes: {found['rows_per_cpu_s']:,.0f} "
            f"rows a CPU second of the whole process ({found['us_a_row']:.1f} us a row)"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
