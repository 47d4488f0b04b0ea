"""An archiver as a process of its own, for tests that kill it."""

from __future__ import annotations

import asyncio
import signal
import sys

from schemas.kafka import KafkaSettings
from schemas.topics import Topics
from streams.archiver.service import ArchiverSettings, run_archiver
from tests.streams.streamkit import toy_game


async def main(bootstrap: str, prefix: str, url: str) -> None:
    """Archive until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    game = toy_game()
    await run_archiver(
        ArchiverSettings(archive_url=url, session_timeout_ms=3_000, max_records=2),
        KafkaSettings(bootstrap_servers=bootstrap),
        Topics(prefix),
        {game.name: game},
        stop=stop,
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
