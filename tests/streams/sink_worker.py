"""A sink as a process of its own, for tests that kill it."""

from __future__ import annotations

import asyncio
import signal
import sys

import msgspec

from schemas.database import DatabaseSettings
from schemas.kafka import KafkaSettings
from schemas.topics import Topics
from streams.timescale.service import SinkSettings, run_sink


async def main(bootstrap: str, prefix: str, database: str) -> None:
    """Store until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await run_sink(
        SinkSettings(
            database=msgspec.json.decode(database, type=DatabaseSettings),
            session_timeout_ms=3_000,
            max_records=3,
        ),
        KafkaSettings(bootstrap_servers=bootstrap),
        Topics(prefix),
        stop=stop,
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
