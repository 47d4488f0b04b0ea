"""What a backtest found: the numbers of the report, before and after, by group and part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.backtest.compare import Change, Distribution, Values, change, distribution, edges
from infra.backtest.parts import part_values
from infra.backtest.question import BEFORE, Question, Variant
from infra.backtest.run import BacktestError, Scored
from infra.sql import plain, quoted
from schemas.game import Game

TOP = 20
MAX_PARTS = 200_000
"""Decisions whose reward is taken apart; of more, those of the lowest hashes stand for all."""
REWARDS = ("immediate", "long_term", "total")
_BINS_2D = 48


class PartChange(msgspec.Struct, frozen=True, kw_only=True):
    """A reward, or a part of one, before and after."""

    before: Distribution | None
    after: Distribution | None
    change: Change | None = None


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Counts by bin."""

    edges: list[float]
    before: list[int]
    after: list[int]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions of one archetype and domain; None: of all."""

    archetype: str | None
    domain: str | None
    n: int
    rewards: dict[str, PartChange]
    parts: dict[str, PartChange]
    """What facts contribute to the immediate reward."""
    shapes: dict[str, Shape]


class VariantReport(msgspec.Struct, frozen=True, kw_only=True):
    """One variant beside what was before."""

    name: str
    domains: dict[str, dict[str, Any]]
    """Reward, horizon and weight of each domain."""
    digest: str
    n_rows: int
    n_open: int
    n_matched: int
    """Decisions that both scorings have."""
    n_only_before: int
    n_only_after: int
    groups: list[Group]
    plane: list[list[int]]
    """Counts of (total before, total after), by the bins of the first group's total."""
    plane_edges: list[float]
    top: list[dict[str, Any]]
    """Decisions that changed most."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    backtest_id: str
    game: str
    source: str
    before: str
    from_ms: int | None
    to_ms: int | None
    first_ms: int
    last_ms: int
    variants: list[VariantReport]


def make_report(
    folder: Path, question: Question, scored: Sequence[Scored], windows: Path
) -> Report:
    """The report of the windows in a folder, beside those of the archive or of `before`.

    Raises:
        BacktestError: no decision is in both.
    """
    counts = {s.name: s for s in scored}
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        _view_before(connection, folder, question, windows)
        variants = [
            _variant(connection, folder, question, variant, counts[variant.name])
            for variant in question.variants
        ]
        first, last = _one(
            connection, "SELECT min(decision_time_ms), max(decision_time_ms) FROM after"
        )
    return Report(
        backtest_id=question.backtest_id,
        game=question.game.name,
        source=question.source,
        before=question.before,
        from_ms=question.from_ms,
        to_ms=question.to_ms,
        first_ms=first,
        last_ms=last,
        variants=variants,
    )


def _view_before(
    connection: duckdb.DuckDBPyConnection, folder: Path, question: Question, windows: Path
) -> None:
    root = folder / BEFORE / "windows" if question.before == "refolded" else windows
    files = f"{root.resolve()}/{question.game.name}/*/*/*.parquet"
    limits = ["true"]
    if question.from_ms is not None:
        limits.append(f"decision_time_ms >= {question.from_ms}")
    if question.to_ms is not None:
        limits.append(f"decision_time_ms < {question.to_ms}")
    connection.execute(_latest("before", files, " AND ".join(limits)))


def _latest(name: str, files: str, limit: str = "true") -> str:
    return f"""
CREATE OR REPLACE VIEW "{name}" AS
SELECT * FROM read_parquet({quoted(files)}, union_by_name = true) WHERE {limit}
QUALIFY row_number() OVER (PARTITION BY decision_id ORDER BY revision DESC) = 1
"""


_PAIRS = """
CREATE OR REPLACE TEMP TABLE pairs AS
SELECT a.decision_id, a.archetype, a.domain, a.actor_id, a.episode, a.step, a.policy_version,
    a.action, a.decision_time_ms, b.status AS status_before, a.status AS status_after,
    b.reward_version AS reward_before, a.reward_version AS reward_after,
    b.immediate AS immediate_before, a.immediate AS immediate_after,
    b.long_term AS long_term_before, a.long_term AS long_term_after,
    b.total AS total_before, a.total AS total_after, a.outcome_facts AS facts
FROM "before" b JOIN after a USING (decision_id)
ORDER BY a.decision_id -- sums of floats ask for an order
"""


def _variant(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    question: Question,
    variant: Variant,
    scored: Scored,
) -> VariantReport:
    connection.execute(_latest("after", f"{folder}/{variant.name}/windows/*/*/*/*.parquet"))
    connection.execute(_PAIRS)
    (n,) = _one(connection, "SELECT count(*) FROM pairs")
    (n_before,) = _one(connection, 'SELECT count(*) FROM "before"')
    (n_after,) = _one(connection, "SELECT count(*) FROM after")
    if not n:
        msg = (
            f"decisions of variant {variant.name} must be among those {question.before}; none of "
            f"{n_after:,} is among {n_before:,} (--before refolded scores them as described today)"
        )
        raise BacktestError(msg)
    kinds = connection.execute("SELECT DISTINCT archetype, domain FROM pairs ORDER BY 1, 2")
    groups = [_group(connection, question.game, variant.game, *kind) for kind in kinds.fetchall()]
    if len(groups) > 1:
        groups.insert(0, _group(connection, question.game, variant.game, None, None))
    plane, plane_edges = _plane(connection)
    return VariantReport(
        name=variant.name,
        domains={name: _described(domain) for name, domain in variant.game.domains.items()},
        digest=scored.digest,
        n_rows=scored.n_rows,
        n_open=scored.n_open,
        n_matched=n,
        n_only_before=n_before - n,
        n_only_after=n_after - n,
        groups=groups,
        plane=plane,
        plane_edges=plane_edges,
        top=_top(connection, variant.game),
    )


def _group(
    connection: duckdb.DuckDBPyConnection,
    old: Game,
    new: Game,
    archetype: str | None,
    domain: str | None,
) -> Group:
    where = "true"
    if archetype is not None and domain is not None:
        where = f"archetype = {quoted(archetype)} AND domain = {quoted(domain)}"
    names = ", ".join(f"{r}_{side}" for r in REWARDS for side in ("before", "after"))
    query = f"SELECT {names} FROM pairs WHERE {where}"
    columns = {k: np.asarray(v, np.float64) for k, v in _columns(connection, query).items()}
    rewards, shapes = {}, {}
    for name in REWARDS:
        before, after = columns[f"{name}_before"], columns[f"{name}_after"]
        rewards[name] = PartChange(
            before=distribution(before), after=distribution(after), change=change(before, after)
        )
        at = edges(before, after)
        shapes[name] = Shape(
            edges=at.tolist(),
            before=np.histogram(before, at)[0].tolist(),
            after=np.histogram(after, at)[0].tolist(),
        )
    return Group(
        archetype=archetype,
        domain=domain,
        n=len(columns["total_after"]),
        rewards=rewards,
        parts=_parts(connection, old, new, where),
        shapes=shapes,
    )


def _parts(
    connection: duckdb.DuckDBPyConnection, old: Game, new: Game, where: str
) -> dict[str, PartChange]:
    query = f"""
SELECT reward_before, reward_after, facts FROM pairs
WHERE {where} AND facts IS NOT NULL ORDER BY hash(decision_id), decision_id LIMIT {MAX_PARTS}
"""
    table = connection.execute(query).to_arrow_table()
    before = _contributions(old, table, "reward_before")
    after = _contributions(new, table, "reward_after")
    found = {}
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        both = was is not None and now is not None and len(was) == len(now)
        found[name] = PartChange(
            before=None if was is None else distribution(was),
            after=None if now is None else distribution(now),
            change=change(was, now) if both and was is not None and now is not None else None,
        )
    return found


def _contributions(game: Game, table: pa.Table, versions: str) -> dict[str, Values]:
    """Part -> contributions of the rows whose reward version is described; others are left out."""
    found: dict[str, list[Values]] = {}
    version_of = table.column(versions)
    for version in sorted(version_of.unique().to_pylist()):
        reward = game.rewards.get(version)
        if reward is not None:
            facts = table.filter(pc.equal(version_of, version)).column("facts")
            for name, values in part_values(reward, facts).items():
                found.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in found.items()}


def _plane(connection: duckdb.DuckDBPyConnection) -> tuple[list[list[int]], list[float]]:
    columns = _columns(connection, "SELECT total_before, total_after FROM pairs")
    before, after = (np.asarray(columns[f"total_{s}"], np.float64) for s in ("before", "after"))
    at = edges(before, after, bins=_BINS_2D)
    finite = np.isfinite(before) & np.isfinite(after)
    counts = np.histogram2d(before[finite], after[finite], bins=(at, at))[0]
    return counts.astype(int).tolist(), at.tolist()


def _top(connection: duckdb.DuckDBPyConnection, game: Game) -> list[dict[str, Any]]:
    cursor = connection.execute(
        f"""
SELECT * FROM pairs WHERE total_after <> total_before
ORDER BY abs(total_after - total_before) DESC, decision_id LIMIT {TOP}
"""
    )
    names = [str(c[0]) for c in cursor.description or ()]
    found = [dict(zip(names, map(plain, row), strict=True)) for row in cursor.fetchall()]
    for row in found:
        row["action_name"] = game.actions.names[row["action"]]
        row["change"] = row["total_after"] - row["total_before"]
    return found


def _described(domain: Any) -> dict[str, Any]:
    return {
        "reward": domain.reward,
        "horizon_ms": domain.horizon_ms,
        "long_term_weight": domain.long_term_weight,
        "standing": domain.standing,
    }


def _columns(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    found: dict[str, Any] = connection.execute(query).fetchnumpy()
    return found


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    return connection.execute(query).fetchone() or ()
