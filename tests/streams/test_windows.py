"""Windows are a function of the rows alone."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Experience, Origin, Row, Watermark, WindowRule
from streams.archiver.windows import Progress, SealedWindow, WindowFold
from tests.streams.streamkit import experience, rule_of, watermark

RULE = WindowRule(max_rows=4, max_span_ms=20)
_STEPS = st.lists(
    st.tuples(st.sampled_from(["wolf", "bear", "tick"]), st.integers(0, 8)), max_size=60
)
Packs = list[list[Row]]


def _rows(steps: list[tuple[str, int]]) -> list[Row]:
    """Rows with rising origins and times that go on by the given steps."""
    rows: list[Row] = []
    time_ms = 1_000
    for i, (kind, later_ms) in enumerate(steps):
        time_ms += later_ms
        origin = Origin(0, i // 2, i % 2)
        if kind == "tick":
            rows.append(watermark(origin, time_ms))
        else:
            rows.append(experience(origin, i, kind, settled_time_ms=time_ms))
    return rows


def _packed(rows: Sequence[Row], cuts: list[int]) -> Packs:
    """Rows in packs of the given sizes, over and over."""
    packs, i, at = [], 0, 0
    while at < len(rows):
        size = cuts[i % len(cuts)]
        packs.append(list(rows[at : at + size]))
        at, i = at + size, i + 1
    return packs


def _shape(windows: Sequence[SealedWindow[list[Experience]]]) -> list[tuple[str, list[Origin]]]:
    return [(w.window_id, [row.origin for row in w.rows]) for w in windows]


def _by_hand(rows: Sequence[Row], rule: WindowRule) -> list[tuple[str, list[Origin]]]:
    """The rule once more, as plainly as it can be said, for one archetype after the other."""
    found = []
    for archetype in ("wolf", "bear"):
        window: list[Experience] = []
        for at, row in enumerate(rows):
            if isinstance(row, Experience) and row.archetype == archetype:
                window.append(row)
                full = len(window) == rule.max_rows
            else:
                full = (
                    isinstance(row, Watermark)
                    and bool(window)
                    and row.watermark_ms >= window[0].settled_time_ms + rule.max_span_ms
                )
            if full:
                first = window[0].origin
                name = f"toy/{archetype}/p0/{first.offset}.{first.index}"
                found.append((at, archetype, name, [r.origin for r in window]))
                window = []
    # Several archetypes that one watermark seals come in the order of their first rows.
    found.sort(key=lambda item: (item[0], item[3][0]))
    return [(name, origins) for _, _, name, origins in found]


@given(_STEPS, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_window_fold_seals_by_the_rule_whatever_the_packs(
    steps: list[tuple[str, int]], cuts: list[int]
) -> None:
    rows = _rows(steps)
    fold = WindowFold(0, rule_of(RULE))
    sealed = [w for i, pack in enumerate(_packed(rows, cuts)) for w in fold.take(i, pack)]
    assert _shape(sealed) == _by_hand(rows, RULE)
    n_rows = sum(isinstance(row, Experience) for row in rows)
    assert fold.n_open + sum(len(w.rows) for w in sealed) == n_rows


@given(_STEPS, st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_window_fold_goes_on_after_any_restart(
    steps: list[tuple[str, int]], cuts: list[int], data: st.DataObject
) -> None:
    packs = _packed(_rows(steps), cuts)
    whole = WindowFold(0, rule_of(RULE))
    wanted = {w.window_id: _shape([w]) for i, pack in enumerate(packs) for w in whole.take(i, pack)}
    stop_at = data.draw(st.integers(0, len(packs)))
    before = WindowFold(0, rule_of(RULE))
    first = [w for i in range(stop_at) for w in before.take(i, packs[i])]
    state = msgspec.json.decode(msgspec.json.encode(before.progress()), type=Progress)
    after = WindowFold(0, rule_of(RULE), state)
    second = [
        w for i in range(state.place.next_offset, len(packs)) for w in after.take(i, packs[i])
    ]
    found = {w.window_id: _shape([w]) for w in first + second}
    assert found == wanted
    assert len(first) + len(second) == len(wanted)  # none is sealed twice


@given(_STEPS, st.lists(st.integers(0, 59), max_size=8))
def test_window_fold_drops_and_counts_rows_that_come_again(
    steps: list[tuple[str, int]], again: list[int]
) -> None:
    rows = _rows(steps)
    doubled: list[Row] = []
    n_again = 0
    for i, row in enumerate(rows):
        doubled.append(row)
        for back in again:
            if back <= i and i % 7 == back % 7:
                doubled.append(rows[back])
                n_again += 1
    fold, clean = WindowFold(0, rule_of(RULE)), WindowFold(0, rule_of(RULE))
    sealed = [w for i, row in enumerate(doubled) for w in fold.take(i, [row])]
    assert _shape(sealed) == _shape([w for i, row in enumerate(rows) for w in clean.take(i, [row])])
    assert fold.n_repeated == n_again


def test_window_fold_leaves_rows_without_a_rule_out() -> None:
    fold: WindowFold[Experience] = WindowFold(
        0, lambda first: RULE if first.archetype == "wolf" else None
    )
    rows = [experience(Origin(0, i, 0), i, "wolf" if i % 2 else "bear") for i in range(8)]
    assert [w.archetype for w in fold.take(0, rows)] == ["wolf"]
    assert fold.n_open == 0
