"""What can go wrong with the second sink's database."""

from __future__ import annotations

import psycopg

_HOPELESS = ("28", "3D", "3F", "42")
"""SQLSTATE classes that waiting does not mend: login, no such database or schema, no right."""


class DatabaseError(RuntimeError):
    """The database, or the log behind it, is not what it must be; the message says what to do."""


class Overtaken(Exception):
    """Another sink has written further, or the database was set back: read on from its offset."""

    def __init__(self, next_offset: int) -> None:
        super().__init__(f"the database says offset {next_offset}")
        self.next_offset = next_offset


def is_away(error: psycopg.Error) -> bool:
    """Whether the database may come back: it was stopped, is starting, is full, or broke off.

    A server that refuses a login says so only in words: libpq gives no SQLSTATE at connecting.
    """
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    if error.sqlstate is not None:
        return not error.sqlstate.startswith(_HOPELESS)
    words = str(error)
    return not any(
        said in words
        for said in ("authentication failed", "does not exist", "no password", "no pg_hba.conf")
    )
