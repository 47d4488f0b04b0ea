"""What COPY is sent, read again value by value and compared with each value packed by itself."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from schemas.events import Language
from schemas.records import Experience, Origin, encode_row
from streams.timescale.columns import COLUMNS, LANGUAGE_USED, NAMES, row_of
from streams.timescale.wire import copy_stream
from tests.streams.databases import awkward_rows
from tests.streams.streamkit import experience

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
FROM_1970_TO_2000_MS = 946_684_800_000


def read(parts: Iterable[bytes | memoryview]) -> list[dict[str, bytes | None]]:
    """The values of a stream, by the format's description."""
    stream, at, rows = b"".join(parts), len(SIGNATURE), []
    assert stream.startswith(SIGNATURE)
    while (n := struct.unpack_from(">h", stream, at)[0]) != -1:
        assert n == len(NAMES)
        row: dict[str, bytes | None] = {}
        at += 2
        for name in NAMES:
            size = struct.unpack_from(">i", stream, at)[0]
            at += 4
            row[name] = None if size < 0 else stream[at : at + size]
            at += max(size, 0)
        rows.append(row)
    assert at + 2 == len(stream)
    return rows


def packed(kind: str, value: Any) -> bytes | None:
    """A value as PostgreSQL's types receive it."""
    if value is None:
        return None
    if kind == "time":
        return struct.pack(">q", (value - FROM_1970_TO_2000_MS) * 1000)
    if kind == "integer":
        return struct.pack(">q", value)
    if kind == "float":
        return struct.pack(">d", value)
    if kind == "bool":
        return bytes([value])
    return bytes(value) if kind == "bytes" else str(value).encode()


def wanted(row: Experience) -> dict[str, bytes | None]:
    """A row's values but for those of JSON, one by one."""
    found: dict[str, bytes | None] = {LANGUAGE_USED: bytes([row.language is not None])}
    for column in COLUMNS:
        above, _, below = column.source.partition(".")
        value = getattr(row, above)
        if below and value is not None:
            value = getattr(value, below)
        if column.kind != "json":
            found[column.name] = packed(column.kind, value)
    return found


def loaded(row: dict[str, bytes | None]) -> Experience:
    """The row that a database would give back for what it was sent."""
    values: list[Any] = []
    for column in COLUMNS:
        data = row[column.name]
        if data is None:
            values.append(None)
        elif column.kind == "time":
            values.append(struct.unpack(">q", data)[0] // 1000 + FROM_1970_TO_2000_MS)
        elif column.kind == "integer":
            values.append(struct.unpack(">q", data)[0])
        elif column.kind == "float":
            values.append(struct.unpack(">d", data)[0])
        elif column.kind == "bool":
            values.append(bool(data[0]))
        elif column.kind == "json":
            assert data[:1] == b"\1"
            values.append(data[1:].decode())
        else:
            values.append(data if column.kind == "bytes" else data.decode())
    return row_of([*values, row[LANGUAGE_USED] == b"\1", row["exact"]])


def sent(rows: list[Experience]) -> list[dict[str, bytes | None]]:
    return read(copy_stream([encode_row(row) for row in rows]))


def some(n: int = 40) -> list[Experience]:
    return [experience(Origin(0, i, 0), i, opponent_id="o" * (i % 30) or None) for i in range(n)]


def test_every_value_is_what_its_type_receives() -> None:
    rows = [
        *some(),
        experience(Origin(0, 90, 0), language=Language(prompt="p", reasoning="")),
        experience(Origin(0, 91, 0), explored=True, revision=3, success=False, outcome_time_ms=0),
    ]
    for row, values in zip(rows, sent(rows), strict=True):
        assert {name: values[name] for name in wanted(row)} == wanted(row)
        assert values["exact"] is None
        assert loaded(values) == row


def test_rows_alone_are_as_rows_together() -> None:
    rows = [*some(8), *awkward_rows()]
    assert [sent([row])[0] for row in rows] == sent(rows)


def test_awkward_values_come_with_the_exact_bytes() -> None:
    rows = awkward_rows()
    found = sent(rows)
    assert [loaded(values) for values in found] == rows
    exact = {i for i, values in enumerate(found) if values["exact"] is not None}
    assert exact == {0, 1, 2, 3, 5, 11}
    for values in found:
        texts = [values[c.name] or b"" for c in COLUMNS if c.kind in ("text", "json")]
        assert not any(b"\0" in text or b"\\u0000" in text for text in texts)


def test_columns_of_many_sizes_are_copied_row_by_row() -> None:
    rows = [experience(Origin(0, i, 0), i, world="ä" * i) for i in range(90)]
    assert [values["world"] for values in sent(rows)] == [row.world.encode() for row in rows]


def test_bytes_in_another_form_are_sent_as_they_mean() -> None:
    row = some(2)[1]
    fields = msgspec.msgpack.decode(encode_row(row))
    other = msgspec.msgpack.encode(dict(reversed(fields.items())))
    assert read(copy_stream([other])) == sent([row])


def test_numbers_and_times_out_of_range_are_refused() -> None:
    with pytest.raises(pa.ArrowInvalid, match="64 bits"):
        sent([experience(Origin(0, 0, 0), step=2**63)])
    with pytest.raises(pa.ArrowInvalid, match="settled_time_ms must be at most"):
        sent([experience(Origin(0, 0, 0), settled_time_ms=2**60)])
