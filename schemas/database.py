"""How to reach the database of the second sink: TimescaleDB, or PostgreSQL without it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=63)]
SslMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]


class DatabaseSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, repr_omit_defaults=True
):
    """Where the database is and who asks."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 5432
    database: Name = "grindstone"
    user: Name = "grindstone"
    password: str | None = None
    """Never in ``repr``, so never in a log."""
    sslmode: SslMode = "prefer"
    keep_days: Annotated[int, Meta(ge=1)] | None = None
    """Rows whose event time is older are dropped; None keeps them all."""

    def __repr__(self) -> str:
        return f"DatabaseSettings({self.where})"

    def __rich_repr__(self) -> Any:
        """Show what ``repr`` shows, so that a rich traceback does not show the password."""
        yield self.where

    @property
    def where(self) -> str:
        """The database as messages name it."""
        return f"{self.user}@{self.host}:{self.port}/{self.database}"

    def connection(self) -> dict[str, Any]:
        """Return the keyword arguments that `psycopg.connect` takes."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": self.password,
            "sslmode": self.sslmode,
            "connect_timeout": 5,
            "tcp_user_timeout": 30_000,  # ms; else a machine that is gone is waited for 15 minutes
            "application_name": "grindstone",
        }
