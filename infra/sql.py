"""`grindstone sql`: questions to the windows, answered by DuckDB; nothing is written."""

import base64
import csv
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import duckdb
import msgspec

from schemas.errors import refuse, shown

_FETCH = 1_000
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s+(?=\S)", re.IGNORECASE)
VIEWS = ("experiences", "decisions_latest", "windows", "facts", "rescored")


class QueryError(RuntimeError):
    """A query that DuckDB does not answer."""


class Lake(msgspec.Struct, frozen=True):
    """Where the Parquet files lie."""

    windows: Path
    backtests: Path | None = None


class Result:
    """The answer to a query, read as it is asked for."""

    def __init__(self, found: duckdb.DuckDBPyConnection) -> None:
        self._found = found
        self.columns = [str(column[0]) for column in found.description or ()]

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows, a thousand at a time."""
        while chunk := self._found.fetchmany(_FETCH):
            yield from chunk

    def documents(self) -> list[dict[str, Any]]:
        """The rows as JSON has them: bytes in base64, times in ISO form, NaN and such as text."""
        return [
            {name: plain(value) for name, value in zip(self.columns, row, strict=True)}
            for row in self.rows()
        ]


@contextmanager
def run_query(lake: Lake, text: str) -> Iterator[Result]:
    """The answer to one SELECT over the views.

    Raises:
        SchemaError: it is not one SELECT.
        QueryError: there are no windows, or DuckDB refuses it; the message is DuckDB's.
    """
    with duckdb.connect(":memory:") as connection:
        check_query(connection, text)
        make_views(connection, lake)
        lock(connection, lake)
        try:
            yield Result(connection.execute(text))
        except duckdb.Error as error:
            msg = f"the query must be one that DuckDB answers; got {' '.join(str(error).split())}"
            raise QueryError(msg) from error


def check_query(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Makes sure that a text is one SELECT (or DESCRIBE, SUMMARIZE, or EXPLAIN of one).

    Raises:
        SchemaError: it is something else.
    """
    try:
        statements = connection.extract_statements(_EXPLAIN.sub("", text, count=1))
    except duckdb.Error as error:
        refuse("the query", "SQL that DuckDB reads", " ".join(str(error).split()))
    kinds = [s.type for s in statements]
    if kinds != [duckdb.StatementType.SELECT]:
        names = ", ".join(kind.name for kind in kinds) or "nothing"
        rule = "one SELECT, DESCRIBE or SUMMARIZE"
        refuse("the query", rule, names, "the archive is never written to")


def make_views(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Makes the views over an archive.

    Raises:
        QueryError: there are no windows.
    """
    if not any(lake.windows.glob("*/*/*/*.parquet")):
        msg = (
            f"windows must lie below {lake.windows}; there are none (let the archiver run, or name "
            f"another archive with --archive or GRINDSTONE_DATA_DIR)"
        )
        raise QueryError(msg)
    windows = quoted(f"{lake.windows.resolve()}/*/*/*/*.parquet")
    connection.execute(
        _EXPERIENCES.format(files=windows, skip=len(str(lake.windows.resolve())) + 2)
    )
    connection.execute(_LATEST)
    connection.execute(_WINDOWS.format(files=windows))
    connection.execute(_FACTS.format(sources=" UNION ALL ".join(_fact_sources(connection))))
    if lake.backtests is not None and any(lake.backtests.glob("*/*/windows/*/*/*/*.parquet")):
        root = str(lake.backtests.resolve())
        files = quoted(f"{root}/*/*/windows/*/*/*/*.parquet")
        connection.execute(_RESCORED.format(files=files, skip=len(root) + 2))


def lock(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Lets the connection read the lake and nothing else from here on, for good."""
    folders = [lake.windows, *([lake.backtests] if lake.backtests else [])]
    listed = ", ".join(quoted(f"{folder.resolve()}/") for folder in folders)
    connection.execute(f"SET allowed_directories = [{listed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


_TIMED = """
    * EXCLUDE (filename),
    make_timestamp(decision_time_ms * 1000) AS decision_time,
    make_timestamp(settled_time_ms * 1000) AS settled_time,
"""
_EXPERIENCES = (
    "CREATE VIEW experiences AS SELECT"
    + _TIMED
    + """
    regexp_replace(substr(filename, {skip}), '[.]parquet$', '') AS window_id
FROM read_parquet({files}, union_by_name = true, filename = true)
"""
)
_LATEST = """
CREATE VIEW decisions_latest AS SELECT * FROM experiences
QUALIFY row_number() OVER (PARTITION BY game, decision_id ORDER BY revision DESC) = 1
"""
_WINDOWS = """
CREATE VIEW windows AS
WITH notes AS (
    SELECT file_name, decode(key) AS key, decode(value) AS value
    FROM parquet_kv_metadata({files})
), rows AS (
    SELECT filename, any_value(game) AS game, any_value(archetype) AS archetype,
        any_value(origin_partition) AS "partition", count(*) AS n_rows,
        make_timestamp(min(decision_time_ms) * 1000) AS first_decision_time,
        make_timestamp(max(decision_time_ms) * 1000) AS last_decision_time
    FROM read_parquet({files}, union_by_name = true, filename = true) GROUP BY filename
)
SELECT w.value AS window_id, rows.* EXCLUDE (filename), d.value AS digest, filename AS file
FROM rows
JOIN notes w ON w.file_name = filename AND w.key = 'window_id'
JOIN notes d ON d.file_name = filename AND d.key = 'rows_digest'
"""
_FACTS = "CREATE VIEW facts AS {sources}"
_RESCORED = (
    "CREATE VIEW rescored AS SELECT"
    + _TIMED
    + """
    split_part(substr(filename, {skip}), '/', 1) AS backtest,
    split_part(substr(filename, {skip}), '/', 2) AS variant
FROM read_parquet({files}, union_by_name = true, filename = true)
WHERE NOT starts_with(backtest, '.') -- one that is being written
"""
)
_FACT_COLUMNS = {"decision": "facts", "outcome": "outcome_facts", "after": "next_facts"}


def _fact_sources(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """A SELECT for each column of facts that the windows have; old ones have fewer."""
    there = {row[0] for row in connection.execute("DESCRIBE experiences").fetchall()}
    return [
        f"""
SELECT decision_id, revision, game, archetype, domain, actor_id, policy_version, decision_time,
    '{source}' AS source, fact.key AS name, fact.value AS value
FROM (SELECT *, unnest(map_entries({column})) AS fact FROM decisions_latest)
"""
        for source, column in _FACT_COLUMNS.items()
        if column in there
    ]


def plain(value: Any) -> Any:
    """A value of DuckDB's as JSON has it."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case float() if not math.isfinite(value):
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case dict():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def write_csv(result: Result, stream: IO[str]) -> None:
    """Writes the rows with a line of names first; what is nested is JSON."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(result.columns)
    for row in result.rows():
        writer.writerow([_cell(value) for value in row])


def _cell(value: Any) -> Any:
    found = plain(value)
    return msgspec.json.encode(found).decode() if isinstance(found, dict | list) else found


def show_table(result: Result, n_rows: int) -> None:
    """Prints the first rows as a table, and says how many there are."""
    from rich.table import Table

    from infra.cli.common import show

    table = Table(box=None, pad_edge=False)
    kept: list[tuple[Any, ...]] = []
    n = 0
    for row in result.rows():
        n += 1
        if n <= n_rows:
            kept.append(row)
    for at, name in enumerate(result.columns):
        numbers = all(isinstance(row[at], int | float | Decimal | None) for row in kept)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in kept:
        table.add_row(*(_shown(value) for value in row))
    show(table)
    more = f" (the first {n_rows} are shown; --rows, --json or --csv show more)" * (n > n_rows)
    show(f"{n:,} rows{more}")


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None:
        return ""
    text = str(_cell(value))
    return text if len(text) <= 120 else shown(text)
