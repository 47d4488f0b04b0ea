"""Experiences scored again as columns: what the fold would have written under another reward."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from agents.rewards.fact_columns import FactColumns
from agents.rewards.facts import clip, clip_columns
from agents.rewards.rules import Rule
from agents.rewards.signals import aggregate
from schemas.game import Domain

Column = NDArray[np.float64]


def immediate_column(table: pa.Table, domain: Domain, rule: Rule) -> Column:
    """Return the immediate rewards of a table of experiences of one domain, float64 [N].

    Decisions without an outcome have the domain's default; those with several signals are
    aggregated one by one.
    """
    column = table.column("outcome_facts")
    values = rule.columns(FactColumns.of_column(column))
    values = np.where(column.is_null().to_numpy(), domain.default_reward, values)
    signals = table.column("signals")
    several = np.flatnonzero(signals.is_valid().to_numpy())
    first = table.column("outcome_time_ms").take(several).to_pylist()
    for row, time_ms, more in zip(several, first, signals.take(several).to_pylist(), strict=True):
        scored = [(time_ms, float(values[row]))]
        scored += [(s["time_ms"], rule.value(dict(s["facts"]))) for s in more]
        values[row] = clip(aggregate(domain.aggregate, scored))
    return values


def long_term_column(table: pa.Table, domain: Domain) -> Column:
    """Return the long-term rewards, float64 [N], from the standings that are in the table.

    They are those of the horizon and credit that it was settled with; another horizon needs the
    log (`grindstone backtest`).
    """
    values = np.zeros(table.num_rows)
    if not domain.horizon_ms:
        return values
    if domain.credit == "discounted":
        change = _numbers(table, "credit")
    else:
        change = _numbers(table, "standing_after") - _numbers(table, "standing_before")
    values = np.where(np.isnan(change), 0.0, change / domain.standing_unit)
    if domain.retaliation is not None:
        hit = _numbers(table, "retaliation")
        values = np.where(np.isnan(hit), values, values + domain.retaliation_weight * hit)
    return clip_columns(values)


def rescored(table: pa.Table, domain: Domain, rule: Rule) -> tuple[Column, Column, Column]:
    """Return (immediate, long-term, total) of a table of experiences of one domain."""
    now, later = immediate_column(table, domain, rule), long_term_column(table, domain)
    return now, later, now + domain.long_term_weight * later


def _numbers(table: pa.Table, name: str) -> Column:
    """Return a column, NaN where it is null."""
    column: Column = table.column(name).to_numpy().astype(np.float64)
    return column
