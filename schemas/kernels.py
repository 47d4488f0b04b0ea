"""Encoded rows walked by machine code: every byte is looked at once.

What there is to know of `Experience` comes in as an array (`schemas.walk.Plan`), and what is found
goes out in others: `there` [F, N] is 1 where a row has a field that not all have, and `value`
[V, N] its number, its truth value, the bits of its float or the span of its bytes, which is where
they begin, times 2^32, and how many they are.
https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from schemas.compiled import (
    I4,
    I8,
    I8X2,
    U1,
    U1X2,
    Address,
    Bytes,
    Ints,
    Small,
    address,
    beyond,
    compiled,
    int64,
    part,
    swapped,
    word,
)

LITERAL, TEXT, BYTES, INTEGER, COUNT, FLOAT, BOOL, FLAG, FACTS, VALUE, LANGUAGE = range(11)
"""Kinds of fields. A literal is a key whose value is always the same; a count is a whole number
that is left out where it is 0, and a flag a truth value that is where it is false; facts are a map
of names, in order, to floats; a value is any; the fields of a language follow as fields."""
KIND, REQUIRED, WITHIN, KEY_SIZE, SLOT, KEY = range(6)
_N_LAYOUT = 11
"""Columns of a layout [F, 11], which has the fields in the order in which they are written: the
kind; 1 where every row has the field; 1 for a field of the language; bytes of the key; which of the
values it fills; and the three words of the key, each before the bits that count in it."""


@part
def _big_endian(data: Address, at: int, n_bytes: int) -> Any:
    """Return an unsigned number of 1 to 8 bytes."""
    return swapped(word(data, at)) >> np.uint64(64 - 8 * n_bytes)


@part
def _told(data: Address, at: int, n_bytes: int, least: int) -> tuple[int, int]:
    """Return what is behind a size of so many bytes, and it; -1 where a shorter form would do."""
    n = int64(_big_endian(data, at + 1, n_bytes))
    return at + 1 + n_bytes, n if n >= least else -1


@part
def _text(data: Address, at: int) -> tuple[int, int]:
    """Return where a text begins and how long it is, -1 where none is in its shortest form."""
    tag = int64(data[at])
    if 0xA0 <= tag < 0xC0:
        return at + 1, tag - 0xA0
    if tag == 0xD9:
        return _told(data, at, 1, 32)
    if tag == 0xDA:
        return _told(data, at, 2, 1 << 8)
    return _told(data, at, 4, 1 << 16) if tag == 0xDB else (at, -1)


@part
def _binary(data: Address, at: int) -> tuple[int, int]:
    """Return where bytes begin and how many they are, as `_text` does."""
    tag = int64(data[at])
    if tag == 0xC4:
        return _told(data, at, 1, 0)
    if tag == 0xC5:
        return _told(data, at, 2, 1 << 8)
    return _told(data, at, 4, 1 << 16) if tag == 0xC6 else (at, -1)


@part
def _map(data: Address, at: int) -> tuple[int, int]:
    """Return where a map's first key is and how many it has, as `_text` does."""
    tag = int64(data[at])
    if 0x80 <= tag < 0x90:
        return at + 1, tag - 0x80
    if tag == 0xDE:
        return _told(data, at, 2, 16)
    return _told(data, at, 4, 1 << 16) if tag == 0xDF else (at, -1)


@part
def _array(data: Address, at: int) -> tuple[int, int]:
    """Return where an array's first item is and how many it has, -1 where there is none."""
    tag = int64(data[at])
    if 0x90 <= tag < 0xA0:
        return at + 1, tag - 0x90
    if tag == 0xDC:
        return _told(data, at, 2, 0)
    return _told(data, at, 4, 0) if tag == 0xDD else (at, -1)


@part
def _integer(data: Address, at: int) -> tuple[int, int]:
    """Return where a whole number of 64 bits ends, and it; 0 where none is in its shortest form."""
    tag = int64(data[at])
    if tag < 0x80:
        return at + 1, tag
    if tag >= 0xE0:
        return at + 1, tag - 0x100
    if tag < 0xCC or tag > 0xD3:
        return 0, 0
    n_bytes = 1 << (tag & 3)
    value = _big_endian(data, at + 1, n_bytes)
    end = at + 1 + n_bytes
    if tag < 0xD0:
        least = np.uint64(1) << np.uint64(7 if n_bytes == 1 else 4 * n_bytes)
        if value < least or value >= np.uint64(1) << np.uint64(63):
            return 0, 0
        return end, int64(value)
    shift = 64 - 8 * n_bytes
    number = int64(value << np.uint64(shift)) >> shift
    if n_bytes == 1:
        return (end, number) if number < -32 else (0, 0)
    return (end, number) if number < -(1 << (4 * n_bytes - 1)) else (0, 0)


@part
def _skip(data: Address, at: int, end: int, n: int) -> int:
    """Return where n values of any kind end, -1 where they do not by `end`."""
    while n > 0:
        if at >= end:
            return -1
        tag = int64(data[at])
        n -= 1
        if tag < 0x80 or tag >= 0xE0 or tag == 0xC0 or tag == 0xC2 or tag == 0xC3:
            at += 1
        elif tag < 0x90:
            n += 2 * (tag - 0x80)
            at += 1
        elif tag < 0xA0:
            n += tag - 0x90
            at += 1
        elif tag < 0xC0:
            at += 1 + tag - 0xA0
        elif 0xCC <= tag <= 0xD3:
            at += 1 + (1 << (tag & 3))
        elif tag == 0xCB:
            at += 9
        elif tag == 0xCA:
            at += 5
        elif tag == 0xC4 or tag == 0xD9:
            at += 2 + int64(data[at + 1])
        elif tag == 0xC5 or tag == 0xDA:
            at += 3 + int64(_big_endian(data, at + 1, 2))
        elif tag == 0xC6 or tag == 0xDB:
            at += 5 + int64(_big_endian(data, at + 1, 4))
        elif tag == 0xDC or tag == 0xDE:
            items = int64(_big_endian(data, at + 1, 2))
            n += items if tag == 0xDC else 2 * items
            at += 3
        elif tag == 0xDD or tag == 0xDF:
            items = int64(_big_endian(data, at + 1, 4))
            n += items if tag == 0xDD else 2 * items
            at += 5
        elif 0xD4 <= tag <= 0xD8:
            at += 2 + (1 << (tag - 0xD4))
        elif tag == 0xC7:
            at += 3 + int64(data[at + 1])
        elif tag == 0xC8:
            at += 4 + int64(_big_endian(data, at + 1, 2))
        elif tag == 0xC9:
            at += 6 + int64(_big_endian(data, at + 1, 4))
        else:
            return -1
    return at if at <= end else -1


@part
def _below(data: Address, a: int, n_a: int, b: int, n_b: int) -> bool:
    """Whether the bytes at a come before those at b."""
    for i in range(0, min(n_a, n_b), 8):
        left = min(n_a, n_b) - i
        x, y = _big_endian(data, a + i, 8), _big_endian(data, b + i, 8)
        if left < 8:
            x, y = x >> np.uint64(64 - 8 * left), y >> np.uint64(64 - 8 * left)
        if x != y:
            return bool(x < y)
    return n_a < n_b


@part
def _facts(data: Address, at: int, end: int) -> int:
    """Return where a map of names in order to floats ends, -1 where there is none."""
    at, n = _map(data, at)
    if n < 0:
        return -1
    before, n_before = 0, -1
    for _ in range(n):
        if at >= end:
            return -1
        at, size = _text(data, at)
        if size < 0 or size > end - at:
            return -1
        if n_before >= 0 and not _below(data, before, n_before, at, size):
            return -1
        before, n_before = at, size
        at += size
        if data[at] != 0xCB:
            return -1
        at += 9
    return at if at <= end else -1


@part
def _at_key(data: Address, at: int, field: Address) -> bool:
    """Whether a field's key stands there."""
    return bool(
        int64(word(data, at)) & field[KEY + 1] == field[KEY]
        and int64(word(data, at + 8)) & field[KEY + 3] == field[KEY + 2]
        and int64(word(data, at + 16)) & field[KEY + 5] == field[KEY + 4]
    )


@part
def _number(data: Address, at: int, kind: int) -> tuple[int, int]:
    """Return where a number or truth value ends, and it; 0 where none is in its shortest form."""
    if kind == FLOAT:
        if data[at] != 0xCB:
            return 0, 0
        return at + 9, int64(_big_endian(data, at + 1, 8))
    if kind == INTEGER or kind == COUNT:
        end, value = _integer(data, at)
        return (0, 0) if value == 0 and kind == COUNT else (end, value)
    tag = data[at]
    if tag == 0xC3:
        return at + 1, 1
    return (at + 1, 0) if tag == 0xC2 and kind == BOOL else (0, 0)


@part
def _span(data: Address, at: int, end: int, kind: int) -> tuple[int, int]:
    """Return where a text, bytes, facts or a value begin and how long they are; -1 for another."""
    if kind == TEXT:
        begin, size = _text(data, at)
    elif kind == BYTES:
        begin, size = _binary(data, at)
    else:
        begin = at
        size = (_facts(data, at, end) if kind == FACTS else _skip(data, at, end, 1)) - at
    return begin, -1 if size > end - begin else size


@part
def _walk_row(
    data: Address, at: int, end: int, layout: Address, n_fields: int,
    row: int, n_rows: int, there: Address, value: Address,
) -> tuple[int, int]:  # fmt: skip
    """Read a row's first fields; return where they end, and how many more it has.

    Where the row is not in the form that `encode_row` gives it, the first is -1.
    """
    at, n_left = _map(data, at)
    n_within = 0
    for i in range(n_fields):
        field = beyond(layout, i * _N_LAYOUT)
        if field[WITHIN]:
            if n_within == 0:
                continue
        elif n_within:
            return -1, 0
        if not _at_key(data, at, field):
            if field[REQUIRED]:
                return -1, 0
            continue
        at += field[KEY_SIZE]
        if field[WITHIN]:
            n_within -= 1
        elif field[KEY_SIZE]:
            n_left -= 1
        kind, place = field[KIND], field[SLOT] * n_rows + row
        if kind == LITERAL:
            continue
        if at >= end:
            return -1, 0
        if not field[REQUIRED]:
            there[i * n_rows + row] = 1
        if kind == LANGUAGE:
            at, n_within = _map(data, at)
            if n_within < 0:
                return -1, 0
        elif INTEGER <= kind <= FLAG:
            at, number = _number(data, at, kind)
            if at == 0:
                return -1, 0
            value[place] = number
        else:
            at, size = _span(data, at, end, kind)
            if size < 0:
                return -1, 0
            value[place] = at << 32 | size
            at += size
    return at, n_left


@compiled(types.int64, U1, I8, I8, I8X2, U1X2, I8X2)
def walk_rows(
    rows: Bytes, starts: Ints, sizes: Ints, layout: Ints, there: Bytes, value: Ints
) -> int:
    """Read rows; return the first that is not in the form that `encode_row` gives it, else -1."""
    data, fields = address(rows), address(layout)
    to_there, to_value = address(there), address(value)
    n = len(starts)
    for row in range(n):
        end = starts[row] + sizes[row]
        at, n_left = _walk_row(
            data, starts[row], end, fields, len(layout), row, n, to_there, to_value
        )
        if at != end or n_left:
            return row
    return -1


@compiled(types.int64, U1, I8, I8)
def count_rows(rows: Bytes, begins: Ints, ends: Ints) -> int:
    """Return how many rows records have, as their arrays say; -1 where one is no array."""
    data = address(rows)
    total = 0
    for record in range(len(begins)):
        at, n = _array(data, begins[record])
        if n < 0 or n > ends[record] - at:
            return -1
        total += n
    return total


@compiled(types.boolean, U1, I8, I8, I8X2, I8, I8, U1, U1X2, I8X2)
def find_rows(
    rows: Bytes, begins: Ints, ends: Ints, layout: Ints, starts: Ints, sizes: Ints, ours: Bytes,
    there: Bytes, value: Ints,
) -> bool:  # fmt: skip
    """Find the rows of records, and read the first fields of those that have them in our form.

    Those have a 1 in `ours`. False where the bytes are no MessagePack.
    """
    data, fields = address(rows), address(layout)
    to_there, to_value = address(there), address(value)
    row, n_rows = 0, len(starts)
    for record in range(len(begins)):
        end = ends[record]
        at, n = _array(data, begins[record])
        for _ in range(n):
            starts[row] = at
            behind, n_left = _walk_row(
                data, at, end, fields, len(layout), row, n_rows, to_there, to_value
            )
            if behind >= 0 and n_left >= 0:
                ours[row] = 1
                at = _skip(data, behind, end, 2 * n_left)
            else:
                at = _skip(data, at, end, 1)
            if at < 0:
                return False
            sizes[row] = at - starts[row]
            row += 1
        if at != end:
            return False
    return True


@compiled(types.void, U1, I8, I4)
def count_facts(rows: Bytes, spans: Ints, offsets: Small) -> None:
    """Write [N + 1] where each row's facts begin among those of all rows."""
    data = address(rows)
    for row in range(len(spans)):
        n = 0
        if spans[row]:
            _, n = _map(data, spans[row] >> 32)
        offsets[row + 1] = offsets[row] + n


@compiled(types.void, U1, I8, I4, I8, I8)
def read_facts(rows: Bytes, spans: Ints, offsets: Small, names: Ints, numbers: Ints) -> None:
    """Write the spans of the names of facts, which `_facts` went over, and the numbers' bits."""
    data = address(rows)
    for row in range(len(spans)):
        fact, end = offsets[row], offsets[row + 1]
        at = spans[row] >> 32
        if fact < end:
            at, _ = _map(data, at)
        while fact < end:
            at, size = _text(data, at)
            names[fact] = at << 32 | size
            numbers[fact] = int64(_big_endian(data, at + size + 1, 8))
            at += size + 9
            fact += 1
