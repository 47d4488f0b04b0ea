from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.source import Cursor, cut
from tests.streams.enginekit import record


def accept(cursor: Cursor, offsets: list[int], position: int | None = None) -> list[int] | None:
    at = offsets[-1] + 1 if position is None else position
    kept = cursor.accept([record(o) for o in offsets], at)
    return None if kept is None else [r.offset for r in kept]


def test_cursor_takes_an_answer_that_starts_where_it_wants() -> None:
    cursor = Cursor(5)
    assert accept(cursor, [5, 6, 7]) == [5, 6, 7]
    assert cursor.want == 8


def test_cursor_trims_an_answer_of_before_a_seek() -> None:
    cursor = Cursor(6)
    assert accept(cursor, [4, 5, 6, 7]) == [6, 7]
    assert accept(cursor, [4, 5]) == []
    assert cursor.want == 8


def test_cursor_asks_again_when_records_are_left_out() -> None:
    cursor = Cursor(5)
    assert accept(cursor, [7, 8]) is None
    assert accept(cursor, [5, 6, 7]) == [5, 6, 7]


def test_cursor_takes_the_same_answer_twice_as_a_true_hole() -> None:
    cursor = Cursor(5)
    assert accept(cursor, [7, 8]) is None
    assert accept(cursor, [7, 8, 9]) == [7, 8, 9]
    assert accept(cursor, [12]) is None, "each hole is asked for anew"


def test_cursor_another_larger_answer_is_not_the_same_answer() -> None:
    cursor = Cursor(5)
    assert accept(cursor, [9]) is None
    assert accept(cursor, [7]) is None
    assert accept(cursor, [7]) == [7]


def test_cursor_stands_behind_markers_that_the_consumer_has_passed() -> None:
    cursor = Cursor(0)
    assert accept(cursor, [0, 1], position=3) == [0, 1]
    assert accept(cursor, [3], position=5) == [3], "the marker at 2 is not asked for"


MOVES = st.lists(st.tuples(st.none() | st.integers(0, 40), st.integers(1, 6)), max_size=40)


@given(log=st.sets(st.integers(0, 40)), start=st.integers(0, 20), moves=MOVES)
def test_cursor_yields_each_record_once_whatever_is_answered(
    log: set[int], start: int, moves: list[tuple[int | None, int]]
) -> None:
    """A move is the place of a fetch from before a seek (None: from where we are) and its size."""
    cursor, taken, at, asked = Cursor(start), [], start, False
    for stale, size in [*moves, *[(None, 6)] * 50]:
        if stale is not None and not asked:  # a seek drops what was fetched before it
            at = stale
        answer = sorted(offset for offset in log if offset >= at)[:size]
        got = accept(cursor, answer) if answer else []
        asked = got is None
        taken += got or []
        at = cursor.want
    assert taken == sorted(offset for offset in log if offset >= start)


def test_cut_keeps_to_the_limit_but_takes_one_record_of_any_size() -> None:
    records = [record(0, b"x" * 9), record(1, b"x" * 9), record(2, b"x" * 99)]
    first, rest = cut(records, 20)
    assert [r.offset for r in first] == [0, 1]
    second, rest = cut(rest, 20)
    assert [r.offset for r in second] == [2]
    assert not rest
