"""What every database must do for the second sink: one contract, run on each of them."""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from schemas.arrow import rows_digest
from schemas.database import DatabaseSettings
from schemas.packed import row_bytes
from schemas.records import Experience, Origin, Place, WindowFile, WindowRule
from streams.archiver.files import describe, make_window, window_path
from streams.archiver.windows import WindowFold
from streams.timescale.capabilities import drop_old
from streams.timescale.errors import DatabaseError, Overtaken
from streams.timescale.store import _COPY, Batch, Store
from streams.timescale.stored import look, stored_digests, stored_rows, window_digest
from streams.timescale.wire import copy_stream
from tests.streams.databases import Server, awkward_rows
from tests.streams.streamkit import experience, rows_of_log, rule_of, toy_game

pytestmark = pytest.mark.integration
TOPIC = "experiences"
HOUR_MS = 3_600_000


def batch_of(rows: list[Experience], first: int = 0, partition: int = 0) -> Batch:
    """A batch that moves its partition on by as many offsets as it has rows."""
    last = rows[-1].origin if rows else None
    return Batch(partition, first, Place(first + max(len(rows), 1), last), rows, 5_000)


def some_rows(n: int = 60, partition: int = 0) -> list[Experience]:
    """Rows of the toy game."""
    return [row for row in rows_of_log(partition, n) if isinstance(row, Experience)]


def fill(database: DatabaseSettings, rows: list[Experience]) -> Store:
    """A store that holds rows of partition 0."""
    store = Store.open(database, TOPIC)
    store.place(0)
    store.write(batch_of(rows))
    return store


def count(store: Store, table: str = "experiences") -> int:
    row = store.connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    return -1 if row is None else int(row[0])


def test_values_come_back_bit_for_bit(database: DatabaseSettings) -> None:
    rows = awkward_rows()
    store = fill(database, rows)
    back = list(stored_rows(store.connection))
    assert rows_digest(back) == rows_digest(rows)
    assert stored_digests(store.connection) == {0: rows_digest(rows)}
    facts = store.connection.execute(
        "SELECT (facts ->> 'third')::float8, origin_offset FROM experiences WHERE facts ? 'third'"
    ).fetchall()
    assert facts == [(1 / 3, 0)]
    store.close()


texts = st.text(max_size=12)
doubles = st.floats(allow_nan=False, allow_infinity=False)
details = st.dictionaries(
    texts, st.one_of(texts, st.booleans(), st.integers(-(2**63), 2**63), doubles), max_size=4
)


@seed(4)
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    found=st.lists(
        st.fixed_dictionaries(
            {
                "facts": st.none() | st.dictionaries(texts, doubles, max_size=4),
                "details": st.none() | details,
                "game_time": st.none() | doubles,
                "total": doubles,
                "arm": st.none() | texts,
                "observation": st.binary(max_size=40),
                "related": st.none() | st.lists(texts, max_size=3),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_any_values_come_back_bit_for_bit(
    database: DatabaseSettings, found: list[dict[str, Any]]
) -> None:
    rows = [experience(Origin(0, i, 0), i, **more) for i, more in enumerate(found)]
    store = Store.open(database, TOPIC)
    store.connection.execute("TRUNCATE experiences, sink_offsets")
    store.place(0)
    store.write(batch_of(rows))
    assert stored_digests(store.connection) == {0: rows_digest(rows)}
    store.close()


def test_rows_and_offset_come_together_or_not_at_all(database: DatabaseSettings) -> None:
    rows = some_rows()
    store = fill(database, rows[:10])
    # a value that no column takes, in the last row of the batch
    bad = msgspec.structs.replace(rows[-1], step=2**70)
    with pytest.raises((psycopg.Error, OverflowError)):
        store.write(batch_of([*rows[10:-1], bad], 10))
    assert (count(store), store.place(0).next_offset) == (10, 10)
    assert store.write(batch_of(rows[10:], 10)) == len(rows) - 10
    assert store.place(0) == Place(len(rows), rows[-1].origin)
    store.close()


def test_session_that_dies_before_its_commit_leaves_nothing(database: DatabaseSettings) -> None:
    rows = some_rows()
    store = fill(database, rows[:10])
    with psycopg.connect(**database.connection(), autocommit=True) as other:
        advance = store._advance

        def die_in(batch: Batch, n_new: int) -> None:
            pid = store.connection.info.backend_pid
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            advance(batch, n_new)

        store._advance = die_in  # type: ignore[method-assign]
        with pytest.raises(psycopg.OperationalError):
            store.write(batch_of(rows[10:], 10))
    store.close()
    again = Store.open(database, TOPIC)
    assert (count(again), again.place(0)) == (10, Place(10, rows[9].origin))
    again.close()


def test_rows_that_come_again_are_skipped_by_their_id(database: DatabaseSettings) -> None:
    rows = some_rows()
    store = fill(database, rows)
    store.connection.execute("UPDATE sink_offsets SET next_offset = 0")  # as after a restored copy
    assert store.write(batch_of([*rows, experience(Origin(0, 900, 0), 900)])) == 1
    assert stored_digests(store.connection)[0] == rows_digest(
        [*rows, experience(Origin(0, 900, 0), 900)]
    )
    store.close()


def test_rows_of_another_log_are_refused(database: DatabaseSettings) -> None:
    store = fill(database, some_rows(10))
    other = Store.open(database, "other-experiences")
    other.place(0)
    twin = msgspec.structs.replace(some_rows(10)[3], origin=Origin(0, 77, 0))
    with pytest.raises(DatabaseError, match="two logs share it"):
        other.write(batch_of([twin]))
    assert other.place(0).next_offset == 0
    store.close()
    other.close()


def test_sink_that_was_passed_cannot_go_back(database: DatabaseSettings) -> None:
    rows = some_rows()
    zombie = fill(database, rows[:10])
    heir = Store.open(database, TOPIC)
    place = heir.place(0)
    heir.write(batch_of(rows[10:], place.next_offset))
    with pytest.raises(Overtaken) as caught:
        zombie.write(batch_of(rows[10:20], 10))
    assert caught.value.next_offset == len(rows)
    assert heir.place(0).next_offset == len(rows)
    assert stored_digests(heir.connection) == {0: rows_digest(rows)}
    zombie.close()
    heir.close()


def test_racing_sinks_store_each_row_once(database: DatabaseSettings) -> None:
    rows = some_rows(400)
    Store.open(database, TOPIC).close()

    def race() -> None:
        store = Store.open(database, TOPIC)
        at = store.place(0).next_offset
        while at < len(rows):
            part = rows[at : at + 7]
            try:
                store.write(batch_of(part, at))
                at += len(part)
            except Overtaken as other:
                at = other.next_offset
        store.close()

    threads = [threading.Thread(target=race) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    store = Store.open(database, TOPIC)
    assert stored_digests(store.connection) == {0: rows_digest(rows)}
    assert look(database, TOPIC).n_rows == len(rows)
    store.close()


def test_sink_that_is_stopped_in_a_copy_is_thrown_out_by_its_heir(
    database: DatabaseSettings,
) -> None:
    rows = some_rows(20)
    stopped = fill(database, rows[:2])
    with pytest.raises(psycopg.OperationalError), stopped.connection.transaction():  # noqa: PT012
        stopped._lock(batch_of(rows[2:], 2))
        with stopped.connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            for part in list(copy_stream([row_bytes(row) for row in rows[2:]]))[:-1]:
                copy.write(part)  # and there it stops, with the server waiting for more
            heir = Store.open(database, TOPIC)
            heir.connection.execute("SET lock_timeout = '100ms'")
            assert heir.write(batch_of(rows[2:], 2)) == len(rows) - 2
    assert stored_digests(heir.connection) == {0: rows_digest(rows)}
    heir.close()
    stopped.close()


def test_turn_of_another_partition_or_log_is_not_waited_for(database: DatabaseSettings) -> None:
    first = fill(database, some_rows(3))
    with first.connection.transaction():
        first._lock(batch_of([], 3))
        for topic, partition in ((TOPIC, 1), ("other-experiences", 0)):
            other = Store.open(database, topic)
            other.connection.execute("SET lock_timeout = '100ms'")
            other.place(partition)
            assert other.write(Batch(partition, 0, Place(5), [])) == 0
            other.close()
    first.close()  # nobody has thrown it out


def revised() -> list[Experience]:
    """Decisions over three hours, some revised, one twice; one revision is of another status."""
    rows: list[Experience] = []
    for i in range(30):
        more: dict[str, Any] = {
            "decision_id": f"r{i}",
            "decision_time_ms": i * HOUR_MS // 10,
            "policy_version": "v1",
            "immediate": 0.25,
            "total": 0.5,
        }
        rows.append(experience(Origin(0, i, 0), i, **more))
        if i % 7 == 3:
            more |= {"revision": 1, "total": 0.75, "status": "revised"}
            rows.append(experience(Origin(0, i, 1), i, **more))
        if i == 10:
            rows.append(experience(Origin(0, i, 2), i, **more | {"revision": 2, "total": -0.5}))
    return rows


def test_revisions_are_rows_and_views_count_the_newest(
    database_server: Server, database: DatabaseSettings
) -> None:
    rows = revised()
    store = fill(database, rows)
    if database_server.backend == "full":
        store.connection.execute(
            "CALL refresh_continuous_aggregate('experiences_hourly', NULL, NULL)"
        )
    newest = {row.decision_id: row for row in rows}
    found = store.connection.execute(
        "SELECT decision_id, revision, total FROM decisions_latest"
    ).fetchall()
    assert {r[0]: (r[1], r[2]) for r in found} == {
        name: (row.revision, row.total) for name, row in newest.items()
    }
    assert len(found) == len(newest) < len(rows) == count(store)
    hours: dict[tuple[int, str], tuple[int, float]] = {}
    for row in newest.values():
        key = (row.decision_time_ms // HOUR_MS, row.status)
        n, total = hours.get(key, (0, 0.0))
        hours[key] = (n + 1, total + row.total)
    view = store.connection.execute(
        "SELECT (extract(epoch FROM hour) / 3600)::int, status, sum(n_decisions)::int, sum(total) "
        "FROM rewards_hourly GROUP BY 1, 2"
    ).fetchall()
    assert {(hour, status): (n, total) for hour, status, n, total in view} == hours
    store.close()


def test_windows_of_the_archive_have_the_same_digest(database: DatabaseSettings) -> None:
    rows = rows_of_log(0, 300)
    store = fill(database, [row for row in rows if isinstance(row, Experience)])
    fold = WindowFold(0, rule_of(WindowRule(max_rows=40, max_span_ms=10**9)))
    sealed = fold.take(0, rows)
    assert len(sealed) > 4
    for window in sealed:
        content = make_window(window, toy_game())
        announced = describe(window, content, _no_file(window.window_id))
        assert window_digest(store.connection, announced) == rows_digest(window.rows)
    store.close()


def _no_file(window_id: str) -> WindowFile:
    return WindowFile(path=window_path(window_id), n_bytes=0, sha256="")


def test_old_rows_are_dropped_by_their_event_time(database: DatabaseSettings) -> None:
    now = 1_000 * int(time.time())
    rows = [
        experience(Origin(0, i, 0), i, decision_time_ms=now - days * 24 * HOUR_MS)
        for i, days in enumerate([90, 60, 31, 1, 0])
    ]
    store = fill(msgspec.structs.replace(database, keep_days=30), rows)
    drop_old(store.connection, 30)
    left = {row.decision_id for row in stored_rows(store.connection)}
    # a hypertable drops whole days
    assert {"d0-3-0", "d0-4-0"} <= left <= {"d0-2-0", "d0-3-0", "d0-4-0"}
    store.close()
