"""Rows of the scores' table."""

from __future__ import annotations

from benchmarks.learn_scores import _beside, _row, _shown


def test_one_seed_has_no_spread_and_is_compared_by_itself() -> None:
    alone = _row([123.8], 2.0)
    assert alone["interval"] is None and alone["deviation"] is None
    assert _shown(alone) == "123.8 (one seed)"
    ours = _row([90.0, 100.0, 110.0], 1.0)
    assert ours["mean"] == 100.0 and ours["deviation"] == 10.0
    assert ours["interval"] == [81.8, 118.2]  # 10 / sqrt(3) times 3.15; Student's t says 4.30
    assert _beside(ours, [118.0], 2.0)["reached"]
    assert not _beside(ours, [200.0], 2.0)["reached"]
