"""Several reward signals of one decision: kept in order, and as one number."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from agents.rewards.account import Came, Open
from schemas.errors import refuse, shown
from schemas.events import Outcome
from schemas.game import Aggregate
from schemas.records import Signal

MAX_SIGNALS = 64
"""Reward signals of one decision."""


def aggregate(kind: Aggregate, signals: Sequence[tuple[int, float]]) -> float:
    """Return one value of at least one (event time, value), given by event time, then by arrival.

    ``sum`` and ``mean`` add in that order; ``median`` of an even number is the mean of the middle
    two. Nothing is compared with 0, so that signals which are all negative stay so.
    """
    values = [value for _, value in signals]
    match kind:
        case "earliest":
            return values[0]
        case "latest":
            return values[-1]
        case "sum":
            return sum(values)
        case "mean":
            return sum(values) / len(values)
        case "median":
            return statistics.median(values)
        case "min":
            return min(values)
        case "max":
            return max(values)


def with_signal(entry: Open, event: Outcome, time_ms: int) -> Came:
    """Return the outcome of a decision with one more signal: the first by event time leads.

    Raises:
        SchemaError: the decision has as many signals as it may.
    """
    came = entry.outcome
    if came is None:
        return Came(
            time_ms,
            event.signal,
            event.facts,
            event.success,
            event.terminated or entry.end_terminated,
            event.truncated or entry.end_truncated,
            event.details,
            event.next_facts,
        )
    more = [*(came.more or ())]
    if len(more) + 1 >= MAX_SIGNALS:
        refuse("$.signal", f"one of at most {MAX_SIGNALS} of a decision", shown(event.signal))
    first, other = (came.time_ms, came.signal, came.facts), (time_ms, event.signal, event.facts)
    if other[0] < first[0]:
        first, other = other, first
    at = len(more)
    while at and more[at - 1].time_ms > other[0]:
        at -= 1
    more.insert(at, Signal(other[1], other[0], other[2]))
    return Came(
        first[0],
        first[1],
        first[2],
        came.success if event.success is None else event.success,
        came.terminated or event.terminated,
        came.truncated or event.truncated,
        came.details if event.details is None else event.details,
        came.next_facts if event.next_facts is None else event.next_facts,
        more,
    )
