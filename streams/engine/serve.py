"""Runs an engine without Faust: for tests, benchmarks and processes that need nothing else."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from streams.engine.engine import PartitionEngine

_STOP = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set. Needs a running loop in the main thread."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in _STOP:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in _STOP:
            loop.remove_signal_handler(number)


async def serve(engine: PartitionEngine) -> None:
    """Run the engine until SIGTERM or SIGINT, then stop it cleanly.

    Raises:
        KafkaError: no broker answers or lets us in.
    """
    loop = asyncio.get_running_loop()
    with stop_signals() as stop:
        life = loop.create_task(_live(engine))
        asked = loop.create_task(stop.wait())
        await asyncio.wait((life, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        await engine.stop()
        if stop.is_set():
            life.cancel()  # it may still be waiting for a broker
        with suppress(asyncio.CancelledError):
            await life


async def _live(engine: PartitionEngine) -> None:
    await engine.start()
    await engine.pump()
