"""Windows cut from columns are those that are cut from objects."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.heads import Heads, read_heads
from schemas.packed import PackedRows
from schemas.records import (
    Experience,
    Origin,
    Retraction,
    Row,
    WindowRule,
    decode_heads,
    encode_row,
    encode_rows,
)
from streams.archiver.heads import HeadsFold
from streams.archiver.windows import Progress, WindowFold
from tests.streams.streamkit import experience, rows_of_log, rule_of, watermark

RULE = WindowRule(max_rows=4, max_span_ms=20)
_KINDS = ["wolf", "wolf", "bear", "a-longer-name", "tick", "gone", "again"]
_STEPS = st.lists(st.tuples(st.sampled_from(_KINDS), st.integers(0, 8)), max_size=40)
_SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)


def _retraction(origin: Origin) -> Retraction:
    return Retraction(
        decision_id="d",
        revision=0,
        origin=origin,
        game="toy",
        archetype="wolf",
        actor_id="a",
        total=0.5,
    )


def _rows(steps: list[tuple[str, int]]) -> list[Row]:
    """Rows of all kinds; some come again."""
    rows: list[Row] = []
    time_ms = 1_000
    for i, (kind, step) in enumerate(steps):
        time_ms += step
        origin = Origin(0, 100 * i, i % 3)
        if kind == "tick":
            rows.append(watermark(origin, time_ms))
        elif kind == "gone":
            rows.append(_retraction(origin))
        elif kind == "again" and rows:
            rows.append(rows[-1 - step % len(rows)])
        elif kind != "again":
            rows.append(experience(origin, i, kind, settled_time_ms=time_ms))
    return rows


def _parts(items: list[Any], sizes: list[int]) -> list[list[Any]]:
    """Items in lists of the given sizes, over and over; none is empty but where a size is 0."""
    parts, i, at = [], 0, 0
    while at < len(items):
        size = sizes[i % len(sizes)]
        parts.append(items[at : at + size])
        at, i = at + size, i + 1
    return parts


def _shape(sealed: Any) -> tuple[Any, ...]:
    rows = sealed.rows
    if isinstance(rows, PackedRows):
        found = [part[i] for part in rows.chunks() for i in range(len(part))]
    else:
        found = [encode_row(row) for row in rows]
    return sealed.window_id, sealed.rule, sealed.first, sealed.last, found


@settings(max_examples=60, deadline=None)
@given(_STEPS, _SIZES, _SIZES, st.integers(0, 60))
def test_heads_fold_cuts_as_window_fold_does_and_goes_on_after_any_restart(
    steps: list[tuple[str, int]], packs: list[int], reads: list[int], stop_at: int
) -> None:
    records = list(enumerate(_parts(_rows(steps), packs)))
    plain, fold = WindowFold(0, rule_of(RULE)), HeadsFold(0, lambda _: RULE)
    wanted, found = [], []
    for some in _parts(records, reads):
        offsets = [offset for offset, _ in some]
        for offset, rows in some:
            wanted += [_shape(window) for window in plain.take(offset, rows)]
        heads = read_heads([encode_rows(rows) for _, rows in some])
        found += [_shape(window) for window in fold.take(offsets, heads)]
        assert fold.progress() == plain.progress()
        if offsets and offsets[0] <= stop_at <= offsets[-1]:
            state = msgspec.convert(msgspec.to_builtins(plain.progress()), Progress)
            plain = WindowFold(0, rule_of(RULE), state)
            fold = HeadsFold(0, lambda _: RULE, state)
            at = state.place.next_offset
            back = [pair for pair in records if at <= pair[0] <= offsets[-1]]
            for offset, rows in back:
                assert not plain.take(offset, rows)
            if back:
                values = [encode_rows(rows) for _, rows in back]
                assert not fold.take([offset for offset, _ in back], read_heads(values))
    assert found == wanted
    assert (fold.n_rows, fold.n_repeated) == (plain.n_rows, plain.n_repeated)
    assert (fold.n_open, fold.progress()) == (plain.n_open, plain.progress())
    assert [_shape(w) for w in fold.finish()] == [_shape(w) for w in plain.finish()]


def _told(heads: Heads) -> list[Any]:
    """What heads say, as `decode_heads` says it."""
    return [heads.others.get(i) or heads.head(i) for i in range(len(heads))]


def _other_form(row: Experience) -> bytes:
    return msgspec.msgpack.encode([dict(reversed(msgspec.msgpack.decode(encode_row(row)).items()))])


@pytest.mark.parametrize("n", [0, 1, 2, 200])
def test_heads_are_those_of_the_objects(n: int) -> None:
    rows: list[Row] = rows_of_log(1, n)
    rows += [_retraction(Origin(1, 1_000, 0)), _retraction(Origin(1, 1_001, 0))]
    values = [encode_rows(rows[i : i + 9]) for i in range(0, len(rows), 9)]
    values.insert(1, encode_rows([]))
    odd = [*values, _other_form(experience(Origin(1, 2_000, 0), 7, "lynx"))]
    names = ["lynx", "l\0", "ä" * 70, "", "lynx"]
    named = [encode_rows([experience(Origin(1, i, 0), i, name)]) for i, name in enumerate(names)]
    for some in (values, values[:1], odd, named, named[:1], named[3:4], []):
        heads = read_heads(some)
        assert _told(heads) == [row for value in some for row in decode_heads(value)]
        counts = [len(decode_heads(value)) for value in some]
        assert heads.ends.tolist() == np.cumsum(counts, dtype=int).tolist()


def test_heads_of_what_is_no_row_are_refused() -> None:
    good = experience(Origin(0, 1, 0), 1)
    no_text = encode_rows([good]).replace(b"wolf", b"wo\xfff")
    for value in (b"\xc1", msgspec.msgpack.encode([{"type": "x"}]), no_text, b"\x91\x01"):
        with pytest.raises(msgspec.MsgspecError):
            read_heads([encode_rows([good]), value])
