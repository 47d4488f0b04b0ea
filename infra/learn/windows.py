"""Rows from the windows of the archive: what live play of the arena told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from infra.sql import Lake, make_views, quoted
from schemas.arrow import experience_schema, table_to_rows
from schemas.errors import refuse
from schemas.game import Game

GAME = "arena"
HEADS = 4
"""Decisions a step: they are one row to learn from."""

_NEWEST = """
WITH told AS (
    SELECT *, regexp_replace(episode, '-[a-z]+$', '') AS match_name FROM decisions_latest
    WHERE game = {game} AND archetype = {archetype}
), matches AS (
    SELECT match_name, count(*) AS n, min(decision_time_ms) AS began FROM told GROUP BY ALL
), picked AS (
    SELECT match_name FROM (
        SELECT *, sum(n) OVER (ORDER BY began DESC, match_name) AS upto FROM matches
    ) WHERE upto - n < {decisions}
)
SELECT {columns} FROM told JOIN picked USING (match_name)
ORDER BY decision_time_ms, decision_id
"""


def ensure_recorded(
    windows: Path,
    data: Path,
    archetypes: Sequence[str],
    samples: int,
    maps: bool,
    on_recorded: Callable[[str], None] = lambda archetype: None,
) -> dict[str, Path]:
    """Return folders with the newest rows of each archetype, made of the archive's windows.

    Whole matches are taken, the newest first, until there are `samples` rows.

    Raises:
        SchemaError: windows have no whole steps of an archetype.
        QueryError: there are no windows.
    """
    from games.arena.rewards import described
    from games.arena.windows import rows_of
    from learners.training.rows import rows_made_from, write_rows

    game, found = described(), {}
    for archetype in archetypes:
        table = _newest(windows, game, archetype, samples)
        wanted = _made_from(table, archetype, maps)
        folder = data / "learn" / "rows" / f"{archetype}-windows-{wanted['decisions_digest'][:16]}"
        folder = folder.with_name(f"{folder.name}-maps") if maps else folder
        if rows_made_from(folder) != wanted:
            try:
                rows = rows_of(table_to_rows(table), maps)
            except ValueError as error:
                refuse("--rows", f"windows with whole steps of {archetype}", str(error), _REMEDY)
            write_rows(folder, rows, wanted)
            on_recorded(archetype)
        found[archetype] = folder
    return found


_REMEDY = "run `grindstone demo --game arena`, or take scripted rows"


def _newest(windows: Path, game: Game, archetype: str, samples: int) -> pa.Table:
    """The newest decisions of an archetype, as windows hold them."""
    schema = experience_schema(game.observation.size, game.actions.n)
    with duckdb.connect(":memory:") as connection:
        make_views(connection, Lake(windows))
        return connection.execute(
            _NEWEST.format(
                columns=", ".join(f'"{name}"' for name in schema.names),
                game=quoted(game.name),
                archetype=quoted(archetype),
                decisions=HEADS * samples,
            )
        ).to_arrow_table()


def _made_from(table: pa.Table, archetype: str, maps: bool) -> dict[str, Any]:
    """Return which decisions rows are made of: places in the log, policies, rewards, ages."""
    digest = hashlib.blake2b(digest_size=16)
    for text in table.column("decision_id").to_pylist():
        digest.update(f"{text}\n".encode())
    for revision in table.column("revision").to_pylist():
        digest.update(int(revision).to_bytes(4))
    places: dict[str, list[int]] = {}
    pairs = (table.column(f"origin_{name}").to_pylist() for name in ("partition", "offset"))
    for partition, offset in zip(*pairs, strict=True):
        low, high = places.get(str(partition), (offset, offset))
        places[str(partition)] = [min(low, offset), max(high, offset)]
    return {
        "source": "windows",
        "game": GAME,
        "archetype": archetype,
        "maps": maps,
        "decisions": table.num_rows,
        "decisions_digest": digest.hexdigest(),
        "offsets": dict(sorted(places.items())),
        "policies": _counts(table, "policy_version"),
        "rewards": _counts(table, "reward_version"),
        "first_time_ms": _edge(table, pc.min),
        "last_time_ms": _edge(table, pc.max),
    }


def _counts(table: pa.Table, name: str) -> dict[str, int]:
    """How many decisions have each value."""
    counted = table.column(name).value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in sorted(counted, key=lambda r: r["values"])}


def _edge(table: pa.Table, take: Callable[[Any], pa.Scalar]) -> int:
    return int(take(table.column("decision_time_ms")).as_py() or 0)
