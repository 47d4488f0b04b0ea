"""The database of a torture: the sink's, stopped as a crash would stop it."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from tests.torture.roles import Place


def can_have_database() -> bool:
    """Whether there is a sink to torture."""
    return importlib.util.find_spec("streams.timescale") is not None


class Database:
    """A server of our own; its data lie below the run's folder."""

    def __init__(self, folder: Path) -> None:
        local: Any = importlib.import_module("infra.timescale.database")
        self._own: Any = local.LocalDatabase(folder)

    def start(self) -> str:
        """Start it and return how to reach it, for the sink's process."""
        return msgspec.json.encode(self._own.start()).decode()

    def stop_immediately(self) -> None:
        """End it as ``pg_ctl stop -m immediate`` does."""
        self._own.kill()

    def wipe(self) -> None:
        """End it and remove its data."""
        self._own.wipe()

    def digests(self) -> dict[int, str]:
        """Return the digest of each partition's rows, read back one by one."""
        import psycopg

        timescale: Any = importlib.import_module("streams.timescale")
        with psycopg.connect(**self._own.settings.connection(), autocommit=True) as connection:
            found: dict[int, str] = timescale.stored_digests(connection)
            return found

    def count(self) -> int:
        """Return how many rows there are; 0 before the sink has made its tables."""
        import psycopg

        try:
            with psycopg.connect(**self._own.settings.connection(), autocommit=True) as connection:
                row = connection.execute("SELECT count(*) FROM experiences").fetchone()
        except psycopg.Error:
            return 0
        return int(row[0]) if row else 0


async def sink(place: Place, stop: asyncio.Event) -> None:
    """Run the sink with a short session."""
    from tests.torture.roles import SESSION_MS

    timescale: Any = importlib.import_module("streams.timescale")
    database: Any = importlib.import_module("schemas.database")
    settings = timescale.SinkSettings(
        database=msgspec.json.decode(place.database, type=database.DatabaseSettings),
        session_timeout_ms=SESSION_MS,
        fetch_min_bytes=1,
    )
    await timescale.run_sink(settings, place.kafka, place.topics, stop=stop)
