"""The databases that the second sink must hold on, and rows that are hard to store."""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import conninfo

from infra.timescale.database import LocalDatabase, Runner
from infra.timescale.postgres import find_server, has_tree
from schemas.database import DatabaseSettings
from schemas.events import Language
from schemas.records import Experience, Origin, Signal
from tests.streams.streamkit import experience

FULL = "GRINDSTONE_TEST_DATABASE"
BACKENDS = ("plain", "tree", *(("full",) if os.environ.get(FULL) else ()))
"""PostgreSQL alone, TimescaleDB's Apache build, and its full build where its URL is given."""


class Server(msgspec.Struct, frozen=True):
    """A database server of this test run."""

    backend: str
    settings: DatabaseSettings
    local: LocalDatabase | None
    """None for one that is not ours: it is never stopped."""


@contextmanager
def open_server(backend: str, folder: Path) -> Iterator[Server]:
    """Start a server of one kind, or skip the test with the line to type."""
    if backend == "full":
        yield _full()
        return
    runner: Runner = "tree" if backend == "tree" else "plain"
    if runner == "tree" and not has_tree():
        pytest.skip("TimescaleDB is not set up; type: make timescale (as root)")
    if runner == "plain" and find_server() is None:
        pytest.skip("there is no PostgreSQL; type: sudo apt-get install -y postgresql")
    local = LocalDatabase(folder / backend, runner)
    try:
        yield Server(backend, local.start(), local)
    finally:
        local.wipe()


def _full() -> Server:
    found = conninfo.conninfo_to_dict(os.environ[FULL])
    names = {"host": "host", "port": "port", "user": "user", "password": "password"}
    fields: dict[str, Any] = {ours: found[theirs] for ours, theirs in names.items()}
    fields |= {"port": int(fields["port"]), "database": found["dbname"]}
    return Server("full", DatabaseSettings(**fields), None)


@contextmanager
def fresh_database(server: Server) -> Iterator[DatabaseSettings]:
    """Make an empty database on a server and drop it afterwards."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    first = server.settings.connection()
    with psycopg.connect(**first, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    try:
        yield msgspec.structs.replace(server.settings, database=name)
    finally:
        with psycopg.connect(**first, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


def awkward_rows() -> list[Experience]:
    """Rows with the values that databases are known to change."""
    odd: list[Mapping[str, Any]] = [
        {"facts": {"zero": -0.0, "huge": 1e300, "tiny": 5e-324, "third": 1 / 3, "whole": 1.0}},
        {"details": {"a": 1, "b": 1.0, "c": 1e300, "d": -0.0, "e": True, "f": "x", "g": 2**60}},
        {"outcome_details": {"f": 1e22, "text": 'ä\u2028\n\t"\\'}, "details": {"f": 1e15}},
        {"details": {"nul": "a\0b"}, "actor_id": "nul\0here", "facts": {"n\0": 1.0}},
        {"language": Language()},
        {"language": Language(prompt="p\0q", response="ö" * 3_000, reasoning="")},
        {"observation": bytes(range(256)) * 40, "next_observation": b"", "legal": b"\0\1"},
        {"game_time": -0.0, "confidence": 1.0, "standing_before": 0.1 + 0.2, "credit": -1e-12},
        {"decision_time_ms": 2**53, "settled_time_ms": 2**53 - 1, "outcome_time_ms": 0},
        {"related": ["d1", "d 2", 'd"3'], "player_id": "p", "arm": "b", "action_type": "trade"},
        {"related": [], "facts": {}, "signals": [], "details": {}, "continuous": b"\0\0\0\0"},
        {"signals": [Signal("late", 7, {"x": -0.0}), Signal("later", 2**53, {})]},
        {"success": False, "explored": True, "truncated": True, "status": "censored"},
        {
            "probabilities": struct.pack("<3f", 0.1, 0.2, 0.7),
            "opponent_id": "o",
            "retaliation": 0.0,
        },
    ]
    rows = [experience(Origin(0, i, 0), i, **more) for i, more in enumerate(odd)]
    known = [
        msgspec.structs.replace(row, decision_id=f"{row.decision_id} {i}\u00e4")
        for i, row in enumerate(rows)
    ]
    return known
