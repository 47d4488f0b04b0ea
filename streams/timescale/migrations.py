"""Schema migrations: numbered SQL files, each applied once, in order, in one transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import msgspec
import psycopg

from streams.timescale.errors import DatabaseError

LOCK = 0x6772_696E_6473  # "grinds", as a number: set-ups of a schema wait for each other under it
_NAME = re.compile(r"^(\d{4})_(\w+)\.sql$")
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
)
"""


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """BLAKE2b-128 of the text, hex."""
        return hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()


def statements(text: str) -> bytes:
    """Return SQL of ours as psycopg takes it where it is no literal; no user typed any of it."""
    return text.encode()


def sql_file(path: str) -> str:
    """Return the text of a file below ``sql/``."""
    return resources.files(__package__).joinpath("sql", path).read_text("utf-8")


def our_migrations() -> list[Migration]:
    """Return the migrations of this version, in order."""
    folder = resources.files(__package__).joinpath("sql")
    found = [(m, f) for f in folder.iterdir() if (m := _NAME.match(f.name))]
    made = [Migration(int(m[1]), m[2], f.read_text("utf-8")) for m, f in found]
    return sorted(made, key=lambda migration: migration.version)


def migrate(
    connection: psycopg.Connection[Any], migrations: Sequence[Migration] | None = None
) -> list[int]:
    """Apply what is missing, inside the caller's transaction; return the versions applied.

    Two that migrate at once wait for each other.

    Raises:
        DatabaseError: the database is newer than these files, a file was changed after it had been
            applied, or a file does not run.
    """
    wanted = our_migrations() if migrations is None else list(migrations)
    _check_numbers(wanted)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(_TABLE)
        rows = connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
        applied = {int(version): str(checksum) for version, checksum in rows}
        _check_applied(wanted, applied)
        missing = [migration for migration in wanted if migration.version not in applied]
        for migration in missing:
            _apply(connection, migration)
    return [migration.version for migration in missing]


def _check_numbers(wanted: Sequence[Migration]) -> None:
    numbers = [migration.version for migration in wanted]
    if numbers != list(range(1, len(numbers) + 1)):
        msg = f"numbers of migrations must be 1, 2, 3, ...; got {numbers}"
        raise DatabaseError(msg)


def _check_applied(wanted: Sequence[Migration], applied: dict[int, str]) -> None:
    ours = {migration.version: migration for migration in wanted}
    for version in sorted(applied):
        migration = ours.get(version)
        if migration is None:
            msg = (
                f"the database's schema must be at most version {len(ours)}; got {version}: it was "
                f"made by a newer Grindstone (upgrade this one, or give it another database)"
            )
            raise DatabaseError(msg)
        if migration.checksum != applied[version]:
            msg = (
                f"migration {version:04}_{migration.name}.sql must be as it was when it was "
                f"applied, {applied[version]}; got {migration.checksum}: put the file back, and "
                f"write changes as a new migration"
            )
            raise DatabaseError(msg)


def _apply(connection: psycopg.Connection[Any], migration: Migration) -> None:
    try:
        connection.execute(statements(migration.text))
        connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
            (migration.version, migration.name, migration.checksum),
        )
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        msg = (
            f"migration {migration.version:04}_{migration.name}.sql must run; got "
            f"{str(error).strip()} (nothing of it was kept)"
        )
        raise DatabaseError(msg) from error
