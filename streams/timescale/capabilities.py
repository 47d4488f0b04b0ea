"""What a database can do beyond plain SQL: tried, and done without where it answers no.

The Apache-licensed build of TimescaleDB answers SQLSTATE 0A000 to compression, continuous
aggregates and policies; PostgreSQL alone has none of it. The views are the same on all of them.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import psycopg
import structlog

from streams.timescale.migrations import LOCK, sql_file, statements

_log = structlog.get_logger(__name__)

State = Literal["on", "plain", "off"]
"""Used; done with plain SQL instead; not done."""

_NO_EXTENSION = "this PostgreSQL has no TimescaleDB"


class Capability(msgspec.Struct, frozen=True):
    """One thing that was tried."""

    name: str
    state: State
    reason: str = ""


class _Feature(msgspec.Struct, frozen=True):
    name: str
    file: str
    otherwise: State
    instead: str | None = None
    """File with plain SQL that does the same."""
    of_timescaledb: bool = True


_FEATURES = (
    _Feature("lz4", "lz4.sql", "off", of_timescaledb=False),
    _Feature("hypertable", "hypertable.sql", "plain"),
    _Feature("compression", "compression.sql", "off"),
    _Feature("continuous_aggregate", "hourly_continuous.sql", "plain", "hourly_plain.sql"),
)


def set_up(connection: psycopg.Connection[Any], keep_days: int | None) -> list[Capability]:
    """Try every feature, once for each server version, and return what was found.

    Raises:
        psycopg.Error: the plain way fails, too.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        extension = _try_extension(connection)
        server = _server(connection)
        known = read_capabilities(connection, server)
        if len(known) == len(_FEATURES) + 2:  # the extension and the retention are no features
            found = [c for c in known if c.name != "retention"]
        else:
            found = [extension, *(_try(connection, f, extension) for f in _FEATURES)]
            connection.execute(statements(sql_file("optional/rewards.sql")))
        found.append(_retention(connection, keep_days, extension))
        _write(connection, found, server)
    if not known:
        for capability in found:
            _log.info("database.capability", **msgspec.structs.asdict(capability))
    return sorted(found, key=lambda capability: capability.name)


def read_capabilities(
    connection: psycopg.Connection[Any], server: str | None = None
) -> list[Capability]:
    """Return what was found last time, on a server of that version only where one is named."""
    rows = connection.execute(
        "SELECT name, state, reason FROM capabilities WHERE %s::text IS NULL OR server = %s "
        "ORDER BY name",
        (server, server),
    ).fetchall()
    return [Capability(*row) for row in rows]


def drop_old(connection: psycopg.Connection[Any], keep_days: int) -> None:
    """Drop rows whose event time is older, where the database does not do so by itself."""
    with connection.transaction():
        states = {c.name: c.state for c in read_capabilities(connection)}
        if states.get("retention") == "on":
            return
        if states.get("hypertable") == "on":
            connection.execute(
                "SELECT drop_chunks('experiences', older_than => make_interval(days => %s))",
                (keep_days,),
            )
        else:
            connection.execute(
                "DELETE FROM experiences WHERE decision_time < now() - make_interval(days => %s)",
                (keep_days,),
            )


def _try_extension(connection: psycopg.Connection[Any]) -> Capability:
    found = connection.execute(
        "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"
    ).fetchone()
    if found is None:
        return Capability("timescaledb", "off", _NO_EXTENSION)
    reason = _attempt(connection, "CREATE EXTENSION IF NOT EXISTS timescaledb")
    if reason:
        return Capability("timescaledb", "off", reason)
    row = connection.execute(
        "SELECT extversion || ' ' || current_setting('timescaledb.license', true) "
        "FROM pg_extension WHERE extname = 'timescaledb'"
    ).fetchone()
    return Capability("timescaledb", "on", f"version {row[0]}" if row else "")


def _server(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute(
        "SELECT current_setting('server_version') || coalesce(' timescaledb ' || "
        "(SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') || ' ' || "
        "current_setting('timescaledb.license', true), '')"
    ).fetchone()
    return str(row[0]) if row else ""


def _try(
    connection: psycopg.Connection[Any], feature: _Feature, extension: Capability
) -> Capability:
    reason = extension.reason
    if extension.state == "on" or not feature.of_timescaledb:
        reason = _attempt(connection, sql_file(f"optional/{feature.file}"))
        if not reason:
            return Capability(feature.name, "on")
    if feature.instead is not None:
        connection.execute(statements(sql_file(f"optional/{feature.instead}")))
    return Capability(feature.name, feature.otherwise, reason)


def _retention(
    connection: psycopg.Connection[Any], keep_days: int | None, extension: Capability
) -> Capability:
    if extension.state == "on":
        # what it says may have changed since the last start
        remove = "SELECT remove_retention_policy('experiences', if_exists => true)"
        reason = _attempt(connection, remove)
        if not reason and keep_days is not None:
            add = f"SELECT add_retention_policy('experiences', INTERVAL '{keep_days:d} days')"
            reason = _attempt(connection, add)
            if not reason:
                return Capability("retention", "on", f"{keep_days} days")
    else:
        reason = extension.reason
    if keep_days is None:
        return Capability("retention", "off", "timescale.keep_days is not set")
    return Capability("retention", "plain", f"{keep_days} days, by the sink: {reason}")


def _attempt(connection: psycopg.Connection[Any], text: str) -> str:
    """Run statements that may be refused; return why they were, or nothing."""
    try:
        with connection.transaction():  # a savepoint
            connection.execute(statements(text))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        first = str(error).strip().partition("\n")[0]
        return f"SQLSTATE {error.sqlstate}: {first}"
    return ""


def _write(connection: psycopg.Connection[Any], found: list[Capability], server: str) -> None:
    for c in found:
        connection.execute(
            "INSERT INTO capabilities (name, state, reason, server) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (name) DO UPDATE SET state = excluded.state, reason = excluded.reason, "
            "server = excluded.server, tried_at = now() "
            "WHERE (capabilities.state, capabilities.reason, capabilities.server) "
            "IS DISTINCT FROM (excluded.state, excluded.reason, excluded.server)",
            (c.name, c.state, c.reason, server),
        )
