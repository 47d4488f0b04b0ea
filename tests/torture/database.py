"""The database of a torture: the sink's, stopped as a crash would stop it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from infra.timescale.database import LocalDatabase
from infra.timescale.postgres import find_server, has_tree
from schemas.database import DatabaseSettings
from streams.timescale.service import SinkSettings, run_sink
from streams.timescale.stored import stored_digests

if TYPE_CHECKING:
    from tests.torture.roles import Place


def can_have_database() -> bool:
    """Whether this machine has TimescaleDB, by `make timescale`, or PostgreSQL."""
    return has_tree() or find_server() is not None


class Database:
    """A server of our own; its data lie below the run's folder."""

    def __init__(self, folder: Path) -> None:
        self._own = LocalDatabase(folder, "tree" if has_tree() else "plain")

    @property
    def settings(self) -> DatabaseSettings:
        """How to reach it; it must have been started once."""
        found = self._own.settings
        if found is None:
            msg = "the database must have been started; it was not"
            raise RuntimeError(msg)
        return found

    def start(self) -> DatabaseSettings:
        """Start it and return how to reach it."""
        return self._own.start()

    def stop_immediately(self) -> None:
        """End it as ``pg_ctl stop -m immediate`` does."""
        self._own.kill()

    def wipe(self) -> None:
        """End it and remove its data."""
        self._own.wipe()

    def digests(self) -> dict[int, str]:
        """Return the digest of each partition's rows, read back one by one."""
        with psycopg.connect(**self.settings.connection(), autocommit=True) as connection:
            return stored_digests(connection)

    def count(self) -> int:
        """Return how many rows there are; 0 before the sink has made its tables."""
        try:
            with psycopg.connect(**self.settings.connection(), autocommit=True) as connection:
                row = connection.execute("SELECT count(*) FROM experiences").fetchone()
        except psycopg.Error:
            return 0
        return int(row[0]) if row else 0


async def sink(place: Place, session_ms: int, stop: asyncio.Event) -> None:
    """Run the sink with a short session."""
    if place.database is None:
        msg = "a sink must have a database; the run has none"
        raise RuntimeError(msg)
    settings = SinkSettings(
        database=place.database, session_timeout_ms=session_ms, fetch_min_bytes=1
    )
    await run_sink(settings, place.kafka, place.topics, stop=stop)
