"""Fixtures for the tests of the log: a database server for the session, a database for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.database import DatabaseSettings
from tests.streams.databases import BACKENDS, Server, fresh_database, open_server


@pytest.fixture(scope="session")
def servers(scratch: Path) -> Iterator[Callable[[str], Server]]:
    """Opens a kind of server when it is first asked for; all live until the tests' end."""
    opened: dict[str, Server] = {}
    with ExitStack() as stack:

        def server(backend: str) -> Server:
            if backend not in opened:
                folder = scratch / "databases"
                opened[backend] = stack.enter_context(open_server(backend, folder))
            return opened[backend]

        yield server


@pytest.fixture(scope="module", params=BACKENDS)
def database_server(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Server:
    """Each kind of server in turn; those that are not on this machine are skipped."""
    return servers(str(request.param))


@pytest.fixture
def database(database_server: Server) -> Iterator[DatabaseSettings]:
    """An empty database on it."""
    with fresh_database(database_server) as settings:
        yield settings
