"""One worker process of the torture.

Usage: ``python -m tests.torture.worker BROKER PREFIX faust|direct BLOCK_S``. SIGUSR1 blocks its
event loop for BLOCK_S seconds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time

from schemas.kafka import KafkaSettings
from streams.engine import EngineStats, PartitionEngine, PartitionFold, Table
from streams.engine.serve import serve
from streams.faust_app import run_fold_worker
from tests.torture.counting import CountFold, settings


def main(bootstrap: str, prefix: str, mode: str, block_s: float) -> None:
    """Run until SIGTERM, behind Faust or directly."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(process)d %(message)s"
    )
    for chatty in ("aiokafka", "faust", "mode"):
        logging.getLogger(chatty).setLevel(logging.ERROR)

    def block(number: int, _frame: object) -> None:
        logging.info("blocked for %.0f s by signal %d", block_s, number)
        time.sleep(block_s)
        logging.info("goes on")

    signal.signal(signal.SIGUSR1, block)
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    app = settings(prefix, session_timeout_ms=6_000, batch_records=500)

    def make_fold(partition: int, table: Table) -> PartitionFold:
        return CountFold(table, app.outputs[0], os.getpid())

    def show(stats: EngineStats) -> None:
        logging.info("%s", stats)

    if mode == "faust":
        run_fold_worker("count", app, kafka, make_fold, show)
    else:

        async def run() -> None:
            await serve(PartitionEngine(app, kafka, make_fold, on_stats=show))

        asyncio.run(run())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
