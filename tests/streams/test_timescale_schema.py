"""The schema on every database: made once, checked, and as far as the server can."""

from __future__ import annotations

import threading

import msgspec
import psycopg
import pytest

from schemas.database import DatabaseSettings
from schemas.events import Language
from schemas.records import Experience, Origin
from streams.timescale.capabilities import Capability
from streams.timescale.columns import COLUMNS, KEY, NAMES
from streams.timescale.errors import DatabaseError
from streams.timescale.migrations import Migration, migrate, our_migrations
from streams.timescale.store import Store
from streams.timescale.stored import look
from tests.streams.databases import BACKENDS, FULL, Server

pytestmark = pytest.mark.integration
TOPIC = "experiences"


def count(store: Store, table: str) -> int:
    row = store.connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    return -1 if row is None else int(row[0])


def test_full_build_was_among_the_databases() -> None:
    if "full" not in BACKENDS:
        pytest.skip(f"no full build; docker compose up -d timescaledb, then set {FULL}=URL")


def test_columns_leave_no_field_out() -> None:
    above = {column.source.partition(".")[0] for column in COLUMNS}
    assert above == set(Experience.__struct_fields__)
    for field, struct in {"origin": Origin, "language": Language}.items():
        below = {c.source.partition(".")[2] for c in COLUMNS if c.source.startswith(field + ".")}
        assert below == set(struct.__struct_fields__)
    assert len(NAMES) == len(set(NAMES))


def test_schema_applies_twice_and_has_the_columns(database: DatabaseSettings) -> None:
    with psycopg.connect(**database.connection(), autocommit=True) as connection:
        assert migrate(connection) == [m.version for m in our_migrations()]
        assert migrate(connection) == []
    first, again = Store.open(database, TOPIC), Store.open(database, TOPIC)
    assert first.capabilities == again.capabilities
    found = first.connection.execute(
        "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'experiences'"
    ).fetchall()
    assert {row[0] for row in found} == set(NAMES)
    first.close()
    again.close()


def test_two_that_migrate_at_once_do_it_once(database: DatabaseSettings) -> None:
    stores: list[Store] = []
    threads = [
        threading.Thread(target=lambda: stores.append(Store.open(database, TOPIC)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(stores) == 4
    assert count(stores[0], "schema_migrations") == len(our_migrations())
    for store in stores:
        store.close()


def test_migrations_refuse_changed_and_unknown_ones(database: DatabaseSettings) -> None:
    ours = our_migrations()
    with psycopg.connect(**database.connection(), autocommit=True) as connection:
        migrate(connection, ours)
        changed = [msgspec.structs.replace(ours[0], text=ours[0].text + "-- more\n"), *ours[1:]]
        with pytest.raises(DatabaseError, match=r"0001_experiences.sql must be as it was"):
            migrate(connection, changed)
        with pytest.raises(DatabaseError, match="at most version 1; got 2"):
            migrate(connection, ours[:1])
        with pytest.raises(DatabaseError, match="must be 1, 2, 3"):
            migrate(connection, ours[1:])
        broken = Migration(len(ours) + 1, "broken", "CREATE TABLE half (x int); SELECT nonsense;")
        with pytest.raises(DatabaseError, match=r"\d_broken.sql must run; got .*nonsense"):
            migrate(connection, [*ours, broken])
        gone = connection.execute("SELECT to_regclass('half')").fetchone()
        assert gone == (None,)


def test_capabilities_are_those_of_the_server(
    database_server: Server, database: DatabaseSettings
) -> None:
    store = Store.open(msgspec.structs.replace(database, keep_days=30), TOPIC)
    found = {c.name: c.state for c in store.capabilities}
    wanted = {
        "plain": ("off", "plain", "off", "plain", "plain", "on"),
        "tree": ("on", "on", "off", "plain", "plain", "on"),
        "full": ("on", "on", "on", "on", "on", "on"),
    }[database_server.backend]
    names = ("timescaledb", "hypertable", "compression", "continuous_aggregate", "retention", "lz4")
    assert found == dict(zip(names, wanted, strict=True))
    said: dict[str, Capability] = {c.name: c for c in look(database, TOPIC).capabilities}
    assert said == {c.name: c for c in store.capabilities}
    if database_server.backend == "tree":
        assert said["compression"].reason.startswith("SQLSTATE 0A000")
    store.close()


def test_columns_of_the_key_are_those_of_the_table(database: DatabaseSettings) -> None:
    store = Store.open(database, TOPIC)
    found = store.connection.execute(
        "SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
        "AND a.attnum = ANY (i.indkey) WHERE i.indrelid = 'experiences'::regclass "
        "AND i.indisprimary"
    ).fetchall()
    assert {row[0] for row in found} == set(KEY)
    store.close()


def test_look_says_when_nothing_is_there(database: DatabaseSettings) -> None:
    with pytest.raises(DatabaseError, match="run the sink once"):
        look(database, TOPIC)
