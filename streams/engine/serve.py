"""Runs an engine without Faust: for tests, benchmarks and processes that need nothing else."""

from __future__ import annotations

import asyncio
import signal

from streams.engine.engine import PartitionEngine


async def serve(engine: PartitionEngine) -> None:
    """Run the engine until SIGTERM or SIGINT, then stop it cleanly.

    Raises:
        KafkaError: no broker answers or lets us in.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await engine.start()
        pump = loop.create_task(engine.pump())
        stopped = loop.create_task(stop.wait())
        await asyncio.wait((pump, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await engine.stop()
        await pump
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
