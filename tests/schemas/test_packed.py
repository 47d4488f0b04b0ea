"""Columns straight from bytes: as from objects, from bytes in any form, never from broken ones."""

from __future__ import annotations

import itertools
import struct
from datetime import datetime
from typing import Any

import msgspec
import numba
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from schemas import compiled as compiled_module
from schemas import packed as packed_module
from schemas.arrow import RowsDigest, experience_schema, rows_digest, table_to_rows
from schemas.columns import Columns, rows_to_table
from schemas.compiled import bytes_of
from schemas.heads import read_heads
from schemas.packed import CHUNK_BYTES, PackedRows, pack
from schemas.records import (
    Experience,
    Origin,
    Retraction,
    RowHead,
    Watermark,
    decode_heads,
    encode_row,
    encode_rows,
)
from schemas.texts import texts_of
from schemas.walk import _fields_of
from streams.archiver.files import written
from tests.schemas.test_records import experiences
from tests.streams.streamkit import experience, watermark

SCHEMA = experience_schema(4, 3)


def made(rows: list[bytes], schema: pa.Schema = SCHEMA) -> tuple[list[Experience], str]:
    """The rows that columns of these bytes hold, and the digest that comes with them.

    They are the same as texts, and as the dictionaries that windows are written from.
    """
    found = []
    for of in (schema, written(schema)):
        digest = RowsDigest()
        table = pa.Table.from_batches(Columns(of).batches(pack(rows).chunks(), digest), of)
        table.validate(full=True)
        found.append((table_to_rows(table), digest.hexdigest()))
    assert found[0] == found[1]
    return found[0]


def some(n: int = 9, **more: Any) -> list[Experience]:
    return [experience(Origin(1, i, i % 3), i, **more) for i in range(n)]


def other_forms(row: Experience) -> list[bytes]:
    """The same row in bytes that its digest is not computed over."""
    fields: dict[str, Any] = msgspec.msgpack.decode(encode_row(row))
    unsorted = {**fields, "outcome_facts": dict(reversed(fields["outcome_facts"].items()))}
    return [
        msgspec.msgpack.encode({**fields, "opponent_id": None}),
        msgspec.msgpack.encode({**fields, "revision": 0, "explored": False}),
        msgspec.msgpack.encode(dict(reversed(fields.items()))),
        msgspec.msgpack.encode({**fields, "of_a_later_version": [1, {"x": None}]}),
        msgspec.msgpack.encode(unsorted),
        msgspec.msgpack.encode({**fields, "total": int(row.total)}),
        encode_row(row).replace(b"\xa4step\x07", b"\xa4step\xcc\x07"),
        encode_row(row).replace(b"\xa4game\xa3toy", b"\xa4game\xd9\x03toy"),
        encode_row(row).replace(b"\xa4step\x07", b"\xa4step\xd3" + struct.pack(">q", 7)),
    ]


def test_columns_take_every_form_of_a_row() -> None:
    row = experience(Origin(0, 7, 0), 7, total=1.0, outcome_facts={"a": 1.0, "b": 2.0})
    forms = other_forms(row)
    assert all(form != encode_row(row) for form in forms)
    for form in forms:
        assert msgspec.msgpack.decode(form, type=Experience) == row
        assert made([encode_row(row), form, form]) == ([row] * 3, rows_digest([row] * 3))


@seed(1)
@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(experiences, min_size=1, max_size=30))
def test_columns_and_digest_are_those_of_the_objects(rows: list[Experience]) -> None:
    encoded = [msgspec.msgpack.encode(row) for row in rows]  # maps in any order
    assert made(encoded, experience_schema(2, 3)) == (rows, rows_digest(rows))


TEXTS = st.sampled_from([f"actor-{number:06}" for number in range(0, 3000, 97)])
CYCLES = st.builds(
    lambda some, n: (some * n)[:300], st.lists(TEXTS, min_size=1, max_size=9), st.integers(1, 40)
)


@seed(5)
@given(st.one_of(CYCLES, st.lists(st.one_of(TEXTS, st.text(max_size=40)), max_size=200)))
def test_texts_are_numbered_in_the_order_in_which_they_come(texts: list[str]) -> None:
    parts = [text.encode() for text in texts]
    ends = np.cumsum(np.array([len(part) for part in parts], np.int64))
    spans = np.array(
        [end - len(part) << 32 | len(part) for end, part in zip(ends.tolist(), parts, strict=True)],
        np.int64,
    )
    found, number = texts_of(bytes_of(parts), spans)
    assert found == list(dict.fromkeys(texts))
    assert [found[i] for i in number] == texts


NUMBERS = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1]
NUMBERS += [-1, -32, -33, -128, -129, -32_768, -32_769, -(2**31), -(2**31) - 1, -(2**63)]


def test_numbers_of_all_sizes_survive_alone_and_side_by_side() -> None:
    rows = [
        msgspec.structs.replace(some(1)[0], origin=Origin(0, i, 0), step=number)
        for i, number in enumerate(NUMBERS)
    ]
    for part in [rows, *([row] for row in rows)]:
        assert made([encode_row(row) for row in part]) == (part, rows_digest(part))


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 65_535, 65_536])
def test_texts_and_bytes_of_all_sizes_survive(size: int) -> None:
    odd: dict[str, Any] = {"world": "ä" * (size // 2), "continuous": b"\xff" * size, "arm": ""}
    rows = [*some(3), *some(3, **odd), *some(2, policy_version="x" * size)]
    assert made([encode_row(row) for row in rows]) == (rows, rows_digest(rows))


def test_rows_are_made_into_columns_some_megabytes_at_a_time() -> None:
    vector = np.zeros(60_000, "<f4").tobytes()
    rows = some(80, observation=vector, next_observation=None)
    schema = experience_schema(60_000, 3)
    digest = RowsDigest()
    batches = list(
        Columns(schema).batches(pack([encode_row(row) for row in rows]).chunks(), digest)
    )
    assert len(batches) == -(-80 // -(-CHUNK_BYTES // len(encode_row(rows[0]))))
    assert sum(batch.num_rows for batch in batches) == digest.n_rows == 80
    assert digest.hexdigest() == rows_digest(rows)


@seed(6)
@given(
    st.lists(st.binary(min_size=1, max_size=90), min_size=1, max_size=60),
    st.lists(st.integers(1, 25), min_size=1, max_size=4),
    st.integers(1, 60),
)
def test_rows_are_packed_in_the_same_parts_however_they_come(
    rows: list[bytes], batches: list[int], n_expected: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_module, "CHUNK_BYTES", 300)
        whole, coming, at = pack(rows), PackedRows(n_expected), 0
        for n in itertools.cycle(batches):
            some = np.arange(at, min(at + n, len(rows)))
            coming.add(whole.data, whole.starts, whole.sizes, some)
            at += n
            if at >= len(rows):
                break
        found, wanted = list(coming.chunks()), list(whole.chunks())
    assert len(coming) == len(rows)
    assert [bytes(part.stream) for part in found] == [bytes(part.stream) for part in wanted]
    assert [part[i] for part in found for i in range(len(part))] == rows


def test_values_that_fit_no_column_are_refused() -> None:
    row = some(1)[0]
    bad_text = encode_row(row).replace(b"wolf", b"wo\xfff")
    with pytest.raises(pa.ArrowInvalid):
        made([bad_text])
    with pytest.raises(pa.ArrowInvalid, match="UTF"):
        made([encode_row(row), bad_text])
    with pytest.raises(pa.ArrowInvalid, match="observation of 12 bytes where there must be 16"):
        made([encode_row(row), encode_row(some(1, observation=bytes(12))[0])])
    with pytest.raises(pa.ArrowInvalid, match="action must be a whole number of 32 bits"):
        made([encode_row(some(1, action=2**31)[0])])
    with pytest.raises(pa.ArrowInvalid, match="64 bits"):
        made([encode_row(some(1, step=2**63)[0])])
    with pytest.raises(msgspec.MsgspecError):
        made([msgspec.msgpack.encode({"type": "experience.v2"})])


def test_heads_hold_the_bytes_of_their_rows() -> None:
    row = some(1)[0]
    gone = Retraction(
        decision_id="d",
        revision=0,
        origin=Origin(1, 2, 3),
        game="toy",
        archetype="wolf",
        actor_id="a",
        total=0.5,
    )
    mark = watermark(Origin(1, 3, 0), 7)
    found = decode_heads(encode_rows([row, gone, mark, row]))
    assert [type(head) for head in found] == [RowHead, Retraction, Watermark, RowHead]
    head = found[0]
    assert isinstance(head, RowHead)
    assert bytes(head.data) == encode_row(row)
    assert (head.origin, head.game, head.archetype) == (row.origin, row.game, row.archetype)
    assert (found[1], found[2]) == (gone, mark)


_BYTES = st.tuples(st.integers(0, 5_000), st.integers(0, 255))


def _damaged(data: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    """Bytes of which some are others, or the last ones missing."""
    found = bytearray(data)
    for at, byte in changes:
        found[at % len(found)] = byte
    return bytes(found[: len(found) - cut])


@seed(1)
@settings(max_examples=300, deadline=None, database=None)
@given(experiences, st.lists(_BYTES, max_size=3), st.sampled_from([0, 0, 0, 1, 9, 60]))
def test_damaged_rows_are_read_as_objects_are_or_refused(
    row: Experience, changes: list[tuple[int, int]], cut: int
) -> None:
    data, schema = _damaged(encode_row(row), changes, cut), experience_schema(2, 3)
    try:
        wanted = [row, msgspec.msgpack.decode(data, type=Experience)]
        table_to_rows(rows_to_table(wanted, 2, 3))
    except (msgspec.MsgspecError, UnicodeError, pa.ArrowException, OverflowError):
        with pytest.raises((msgspec.MsgspecError, pa.ArrowException)):
            made([encode_row(row), data], schema)
    else:
        found, digest = made([encode_row(row), data], schema)
        assert [encode_row(one) for one in found] == [encode_row(one) for one in wanted]
        assert digest == rows_digest(wanted)


@seed(2)
@settings(max_examples=300, deadline=None, database=None)
@given(experiences, st.lists(_BYTES, max_size=3), st.sampled_from([0, 0, 0, 1, 9, 60]))
def test_heads_of_damaged_records_are_those_of_objects_or_refused(
    row: Experience, changes: list[tuple[int, int]], cut: int
) -> None:
    data = _damaged(encode_rows([row, watermark(Origin(1, 3, 0), 7)]), changes, cut)
    try:
        wanted = decode_heads(data)
    except msgspec.MsgspecError:
        with pytest.raises(msgspec.MsgspecError):
            read_heads([encode_rows([row]), data])
    else:
        heads = read_heads([encode_rows([row]), data])
        assert [heads.others.get(i) or heads.head(i) for i in range(1, len(heads))] == wanted


def test_what_is_compiled_is_made_where_nothing_can_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    plain = numba.njit

    def njit(*signature: Any, cache: bool = False, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            msg = "cannot cache function: no locator available for file"
            raise RuntimeError(msg)
        return plain(*signature, **options)

    monkeypatch.setattr(compiled_module, "njit", njit)
    assert compiled_module.compiled(numba.int64, numba.int64)(lambda n: n + 1)(2) == 3
    assert asked == [True, False]


def test_a_field_of_another_kind_is_refused() -> None:
    class Odd(msgspec.Struct):
        at: datetime

    with pytest.raises(TypeError, match="a field must be of a kind that rows are walked for"):
        _fields_of(Odd)
