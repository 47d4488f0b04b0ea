"""`grindstone rewards analyse`: what the rewards in the windows look like, and what is odd."""

from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np

from infra.backtest.compare import Distribution, Values, distribution, edges, outliers
from infra.backtest.parts import part_values
from infra.settings import Settings
from infra.sql import Lake, make_views, quoted
from schemas.errors import refuse, shown
from schemas.game import Game

REWARDS = ("immediate", "long_term", "total")
MAX_PARTS = 200_000
"""Decisions whose reward is taken apart; of more, those of the lowest hashes stand for all."""
N_EXAMPLES = 3
_DENSE, _ALL_CLIPPED = 0.999, 0.5


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A reward, or a fact's part in one, over the decisions of a group."""

    name: str
    of_fact: bool
    distribution: Distribution
    n_outliers: int
    outliers: list[tuple[str, float | str]]
    """The farthest, as (decision id, value); NaN and such as text."""
    edges: list[float]
    counts: list[int]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions of one archetype, domain and reward version."""

    archetype: str
    domain: str
    reward_version: str
    n: int
    statuses: dict[str, int]
    parts: list[Part]


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    n: int
    groups: list[Group]
    problems: list[str]
    """What is wrong: values that are no finite numbers."""
    remarks: list[str]
    """What is worth a look: rewards that say nothing, or are clipped most of the time."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which decisions are looked at."""

    archetypes: frozenset[str] = frozenset()
    from_ms: int | None = None
    to_ms: int | None = None


def analyse(settings: Settings, wanted: Wanted, archive: Path | None = None) -> Analysis:
    """The analysis of the newest revisions in an archive.

    Raises:
        SchemaError: no decision is as wanted.
        QueryError: there are no windows.
    """
    game = settings.load_game()
    with duckdb.connect(":memory:") as connection:
        make_views(connection, Lake(archive or settings.windows_dir))
        limit = f"game = {quoted(game.name)}" + _limits(wanted)
        kinds = connection.execute(
            f"SELECT DISTINCT archetype, domain, reward_version FROM decisions_latest "
            f"WHERE {limit} ORDER BY ALL"
        ).fetchall()
        if not kinds:
            asked = ", ".join(sorted(wanted.archetypes)) or "this time"
            refuse("the archive", f"one with decisions of {game.name}", f"none of {shown(asked)}")
        groups = [_group(connection, game, limit, *kind) for kind in kinds]
    return Analysis(
        n=sum(group.n for group in groups),
        groups=groups,
        problems=[line for group in groups for line in _problems(group)],
        remarks=[line for group in groups for line in _remarks(group)],
    )


def name_of(group: Group) -> str:
    """A group's name for people."""
    return f"{group.archetype}, {group.domain}, {group.reward_version}"


def _limits(wanted: Wanted) -> str:
    found = ""
    if wanted.archetypes:
        found += f" AND archetype IN ({', '.join(map(quoted, sorted(wanted.archetypes)))})"
    if wanted.from_ms is not None:
        found += f" AND decision_time_ms >= {wanted.from_ms}"
    if wanted.to_ms is not None:
        found += f" AND decision_time_ms < {wanted.to_ms}"
    return found


def _group(
    connection: duckdb.DuckDBPyConnection,
    game: Game,
    limit: str,
    archetype: str,
    domain: str,
    version: str,
) -> Group:
    where = (
        f"{limit} AND archetype = {quoted(archetype)} AND domain = {quoted(domain)} "
        f"AND reward_version = {quoted(version)}"
    )
    names = ", ".join(REWARDS)
    columns: dict[str, Any] = connection.execute(
        f"SELECT decision_id, {names} FROM decisions_latest WHERE {where} ORDER BY decision_id"
    ).fetchnumpy()
    parts = [
        _part(name, False, np.asarray(columns[name], np.float64), columns["decision_id"])
        for name in REWARDS
    ]
    reward = game.rewards.get(version)
    if reward is not None:
        told = connection.execute(
            f"SELECT decision_id, outcome_facts FROM decisions_latest WHERE {where} "
            f"AND outcome_facts IS NOT NULL ORDER BY hash(decision_id), decision_id "
            f"LIMIT {MAX_PARTS}"
        ).to_arrow_table()
        ids = told.column("decision_id").to_pylist()
        contributions = part_values(reward, told.column("outcome_facts"))
        parts += [_part(name, True, values, ids) for name, values in contributions.items()]
    statuses = connection.execute(
        f"SELECT status, count(*) FROM decisions_latest WHERE {where} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return Group(
        archetype=archetype,
        domain=domain,
        reward_version=version,
        n=len(columns["total"]),
        statuses=dict(statuses),
        parts=parts,
    )


def _part(name: str, of_fact: bool, values: Values, ids: Any) -> Part:
    far = outliers(values).nonzero()[0]
    away = np.nan_to_num(np.abs(values[far]), nan=np.inf)
    first = far[np.argsort(-away, kind="stable")][:N_EXAMPLES]
    at = edges(values)
    finite = values[np.isfinite(values)]
    return Part(
        name=name,
        of_fact=of_fact,
        distribution=distribution(values),
        n_outliers=len(far),
        outliers=[(str(ids[i]), _told(float(values[i]))) for i in first],
        edges=at.tolist(),
        counts=np.histogram(finite, at)[0].tolist(),
    )


def _told(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)


def _problems(group: Group) -> list[str]:
    return [
        f"{part.name} of {name_of(group)} must be finite; {n:,} are NaN and {m:,} infinite, "
        f"such as decision {part.outliers[0][0]}"
        for part in group.parts
        if (n := part.distribution.n_nan) + (m := part.distribution.n_inf)
    ]


def _remarks(group: Group) -> list[str]:
    found = []
    for part in group.parts:
        told = part.distribution
        if told.n and (told.zeros or 0.0) >= _DENSE:
            found.append(f"{part.name} of {name_of(group)} is 0 in {told.zeros:.1%} of decisions")
        elif not part.of_fact and part.name != "total" and (told.clipped or 0.0) >= _ALL_CLIPPED:
            found.append(f"{part.name} of {name_of(group)} is clipped in {told.clipped:.0%}")
    return found
