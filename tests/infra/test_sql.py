"""Questions to windows in SQL: the views, what is refused, and the three ways to print."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from infra.cli.app import app
from infra.cli.common import Exit
from infra.sql import Lake, QueryError, Result, make_views, plain, run_query, write_csv
from schemas.errors import SchemaError
from schemas.records import Experience, Row
from tests.infra.lake import archive, duels, fold, log_of

runner = CliRunner()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return fold(log_of(), duels())


@pytest.fixture
def lake(tmp_path: Path, rows: list[Row]) -> Lake:
    archive(rows, duels(), tmp_path / "windows")
    return Lake(tmp_path / "windows")


def experiences(rows: list[Row]) -> list[Experience]:
    return [row for row in rows if isinstance(row, Experience)]


def ask(lake: Lake, query: str) -> list[dict[str, Any]]:
    with run_query(lake, query) as result:
        return result.documents()


def test_experiences_has_every_row_and_its_window(lake: Lake, rows: list[Row]) -> None:
    (found,) = ask(lake, "SELECT count(*) AS n, sum(total) AS total FROM experiences")
    wanted = experiences(rows)
    assert found["n"] == len(wanted) == 120
    assert found["total"] == pytest.approx(sum(row.total for row in wanted))
    places = "origin_partition, origin_offset, origin_index"
    (first,) = ask(lake, f"SELECT window_id FROM experiences ORDER BY {places} LIMIT 1")
    assert first["window_id"].startswith("duel/fighter/p0/")


def test_decisions_latest_has_the_newest_revision(tmp_path: Path, rows: list[Row]) -> None:
    first = experiences(rows)[0]
    later = msgspec.structs.replace(
        first,
        revision=1,
        total=0.75,
        status="revised",
        origin=msgspec.structs.replace(first.origin, offset=99),
    )
    archive([*rows, later], duels(), tmp_path)
    lake = Lake(tmp_path)
    where = f"WHERE decision_id = '{first.decision_id}'"
    assert ask(lake, f"SELECT count(*) AS n FROM experiences {where}") == [{"n": 2}]
    found = ask(lake, f"SELECT revision, total, status FROM decisions_latest {where}")
    assert found == [{"revision": 1, "total": 0.75, "status": "revised"}]
    assert ask(lake, "SELECT count(*) AS n FROM decisions_latest") == [{"n": 120}]


def test_windows_and_facts_are_those_of_the_files(tmp_path: Path, rows: list[Row]) -> None:
    ids = [window.window_id for window in archive(rows, duels(), tmp_path)]
    found = ask(Lake(tmp_path), "SELECT window_id, n_rows, digest FROM windows ORDER BY 1")
    assert [row["window_id"] for row in found] == sorted(ids)
    assert sum(row["n_rows"] for row in found) == 120
    assert all(re.fullmatch("blake3:[0-9a-f]{32}", row["digest"]) for row in found)
    query = "SELECT sum(value) AS hits FROM facts WHERE source = 'outcome' AND name = 'hits'"
    (hits,) = ask(Lake(tmp_path), query)
    wanted = [row.outcome_facts["hits"] for row in experiences(rows) if row.outcome_facts]
    assert hits["hits"] == sum(wanted)


@pytest.mark.parametrize(
    ("query", "got"),
    [
        ("COPY (SELECT 1) TO '{0}/x.csv'", "COPY"),
        ("CREATE TABLE t AS SELECT 1", "CREATE"),
        ("SELECT 1; SELECT 2", "SELECT, SELECT"),
        ("DROP VIEW experiences", "DROP"),
        ("SET threads = 1", "SET"),
        ("ATTACH '{0}/x.db'", "ATTACH"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO '{0}/x.csv'", "COPY"),
        ("", "nothing"),
        ("SELEC 1", "Parser Error"),
    ],
)
def test_what_is_no_select_is_refused(lake: Lake, query: str, got: str) -> None:
    with pytest.raises(SchemaError, match="the query must be") as caught:
        ask(lake, query.format(lake.windows))
    assert got in str(caught.value)
    assert not list(lake.windows.glob("x.*"))


@pytest.mark.parametrize("query", ["FROM '/etc/passwd'", "SELECT * FROM read_text('/etc/passwd')"])
def test_other_files_cannot_be_read(lake: Lake, query: str) -> None:
    with pytest.raises(QueryError):
        ask(lake, query)


def test_explain_and_describe_are_questions_too(lake: Lake) -> None:
    assert ask(lake, "EXPLAIN SELECT total FROM experiences")
    assert ask(lake, "EXPLAIN ANALYZE SELECT total FROM experiences")
    names = {row["column_name"] for row in ask(lake, "DESCRIBE experiences")}
    assert {"decision_id", "total", "decision_time", "window_id"} <= names


def test_an_empty_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="windows must lie below"):
        ask(Lake(tmp_path), "SELECT 1")


def test_json_and_csv_hold_every_kind_of_value(lake: Lake) -> None:
    query = (
        "SELECT 'a' AS text, 2::DECIMAL(4,1) AS n, 'nan'::DOUBLE AS x, observation, facts, "
        "decision_time, NULL AS nothing FROM experiences ORDER BY decision_time, actor_id LIMIT 1"
    )
    (found,) = ask(lake, query)
    assert found["text"] == "a"
    assert (found["n"], found["x"], found["nothing"]) == (2, "nan", None)
    assert found["facts"] == {"standing": 50.0}
    assert found["decision_time"] == "2023-11-14T22:13:20"
    stream = io.StringIO()
    with run_query(lake, query) as result:
        write_csv(result, stream)
    (line,) = csv.DictReader(io.StringIO(stream.getvalue()))
    assert (line["text"], line["facts"], line["nothing"]) == ("a", '{"standing":50.0}', "")
    assert plain({"a": [1.5, b"x"]}) == {"a": [1.5, "eA=="]}


def test_command_prints_table_json_and_csv(lake: Lake) -> None:
    data = {"GRINDSTONE_DATA_DIR": str(lake.windows.parent)}
    query = "SELECT archetype, count(*) AS n FROM experiences GROUP BY 1 ORDER BY 1"
    table = runner.invoke(app, ["sql", query], env=data)
    assert table.exit_code == Exit.OK, table.output
    assert "fighter" in table.stdout
    assert "2 rows" in table.stdout
    found = json.loads(runner.invoke(app, ["sql", query, "--json"], env=data).stdout)
    assert found == [{"archetype": "fighter", "n": 60}, {"archetype": "guard", "n": 60}]
    lines = runner.invoke(app, ["sql", "-", "--csv"], env=data, input=query).stdout.splitlines()
    assert lines == ["archetype,n", "fighter,60", "guard,60"]


def test_command_says_what_is_wrong_in_one_line(lake: Lake, tmp_path: Path) -> None:
    data = {"GRINDSTONE_DATA_DIR": str(lake.windows.parent)}
    for command, code, text in [
        (["sql", "DROP VIEW windows"], Exit.USAGE, "the query must be one SELECT"),
        (["sql", "SELECT nothing FROM windows"], Exit.FAILED, "nothing"),
        (["sql", "SELECT 1", "--json", "--csv"], Exit.USAGE, "--csv must be"),
    ]:
        result = runner.invoke(app, command, env=data)
        assert result.exit_code == code, result.output
        assert text in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_views_are_made_by_name_only_once(lake: Lake) -> None:
    import duckdb

    with duckdb.connect(":memory:") as connection:
        make_views(connection, lake)
        result = Result(
            connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal")
        )
        names = {row[0] for row in result.rows()}
    assert names == {"experiences", "decisions_latest", "windows", "facts"}
