from __future__ import annotations

from streams.engine.pace import FIRST_BYTES, LEAST_BYTES, Pace


def test_pace_begins_small_and_doubles_while_full_batches_are_quick() -> None:
    pace = Pace(1_000_000, 10_000)
    assert pace.max_bytes == FIRST_BYTES

    pace.folded(0.01, full=False)
    assert pace.max_bytes == FIRST_BYTES, "nothing is known of a larger one"
    for _ in range(9):
        pace.folded(0.01, full=True)

    assert pace.max_bytes == 1_000_000


def test_pace_halves_when_a_fold_takes_more_than_its_share_of_the_session() -> None:
    pace = Pace(8_000_000, 10_000)

    pace.folded(0.6, full=True)
    assert pace.max_bytes == FIRST_BYTES, "not quick, and not too slow"
    pace.folded(1.1, full=True)
    assert pace.max_bytes == FIRST_BYTES // 2
    for _ in range(20):
        pace.folded(9.0, full=True)

    assert pace.max_bytes == LEAST_BYTES


def test_pace_stays_below_what_the_settings_allow() -> None:
    pace = Pace(2_000, 10_000)

    pace.folded(9.0, full=True)
    pace.folded(0.0, full=True)

    assert pace.max_bytes == 2_000
