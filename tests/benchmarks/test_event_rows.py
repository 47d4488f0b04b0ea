"""The storage benchmark's rows are the rewards agent's, the same each time."""

from __future__ import annotations

from collections import Counter

from benchmarks.event_rows import event_rows
from benchmarks.stream_rewards import bench_game


def test_events_settle_into_the_same_rows_of_all_archetypes_by_turns() -> None:
    rows = event_rows(2_500)
    assert rows == event_rows(2_500)
    counts = Counter(row.archetype for row in rows)
    assert set(counts) == set(bench_game().archetypes)
    assert max(counts.values()) - min(counts.values()) < 50
    assert all(len(row.observation) == 64 for row in rows)
    assert sum(row.outcome_facts is not None for row in rows) > 2_000
