"""Fixtures for the tests of the log: a database server for the session, a database for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.database import DatabaseSettings
from tests.streams.databases import BACKENDS, Server, fresh_database, open_server


@pytest.fixture(scope="session", params=BACKENDS)
def database_server(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Server]:
    """Each kind of server in turn; those that are not on this machine are skipped."""
    with open_server(str(request.param), scratch / "databases") as server:
        yield server


@pytest.fixture
def database(database_server: Server) -> Iterator[DatabaseSettings]:
    """An empty database on it."""
    with fresh_database(database_server) as settings:
        yield settings
