"""Rows of binary COPY put together by machine code."""

from __future__ import annotations

import numpy as np
from numba import types

from schemas import kernels
from schemas.compiled import (
    I8,
    I8X2,
    U1,
    U1X2,
    Address,
    Bytes,
    Ints,
    address,
    compiled,
    int64,
    move,
    part,
    put_word,
    swapped,
)

SPAN, EXTRA, NUMBER, COUNT, BOOL, FLAG = range(6)
"""How a column is written: bytes of the rows; bytes made of them; a whole number or the bits of a
float; a number that every row has; a truth value; whether a row has the field."""
HOW = {
    **dict.fromkeys((kernels.TEXT, kernels.BYTES), SPAN),
    **dict.fromkeys((kernels.FACTS, kernels.VALUE), EXTRA),
    **dict.fromkeys((kernels.INTEGER, kernels.FLOAT), NUMBER),
    kernels.COUNT: COUNT,
    kernels.BOOL: BOOL,
    **dict.fromkeys((kernels.FLAG, kernels.LANGUAGE), FLAG),
}
"""How a row's field of a kind is written."""


@part
def _size(how: int, there: int, n_bytes: int) -> int:
    """Return how many bytes a value has, -1 for null."""
    if how == COUNT:
        return 8
    if how == FLAG:
        return 1
    if not there:
        return -1
    if how == NUMBER:
        return 8
    return 1 if how == BOOL else n_bytes


@part
def _put(to: Address, at: int, value: int, n_bytes: int) -> int:
    """Write a number of so many bytes, big-endian, and more behind it; return where it ends."""
    put_word(to, at, swapped(np.uint64(value) << np.uint64(64 - 8 * n_bytes)))
    return at + n_bytes


@compiled(types.void, I8, I8, U1X2, I8X2, I8X2, I8)
def row_sizes(how: Ints, slot: Ints, there: Bytes, value: Ints, extra: Ints, sizes: Ints) -> None:
    """Write [N] how many bytes each row has on the wire."""
    sizes[:] = 2 + 4 * len(how)
    for column in range(len(how)):
        of, i = how[column], slot[column]
        for row in range(len(sizes)):
            span = 0
            if of == EXTRA:
                span = extra[i, row]
            elif of == SPAN:
                span = value[i, row]
            sizes[row] += max(_size(of, there[column, row], span & 0xFFFFFFFF), 0)


@compiled(types.void, U1, U1, I8, I8, U1X2, I8X2, I8X2, U1)
def write_rows(
    rows: Bytes, made: Bytes, how: Ints, slot: Ints,
    there: Bytes, value: Ints, extra: Ints, out: Bytes,
) -> None:  # fmt: skip
    """Write rows of C columns in the table's order; 8 bytes behind the last are changed.

    Args:
        rows: what the spans of `value` are of.
        made: what those of `extra` are of.
        how: [C] how each column is written.
        slot: [C] which of the values or of the extra ones it is.
        there: [C, N] 1 where a row has a value.
        value: [V, N] what the rows say, as `schemas.kernels` describes it.
        extra: [E, N] spans of what was made of them.
        out: where the rows go.
    """
    data, more, to, at = address(rows), address(made), address(out), 0
    for row in range(there.shape[1]):
        at = _put(to, at, len(how), 2)
        for column in range(len(how)):
            of = how[column]
            held = extra[slot[column], row] if of == EXTRA else value[slot[column], row]
            size = _size(of, there[column, row], held & 0xFFFFFFFF)
            at = _put(to, at, size, 4)
            if size < 0:
                continue
            if of == SPAN:
                move(to, at, data, held >> 32, size)
                at += size
            elif of == EXTRA:
                move(to, at, more, held >> 32, size)
                at += size
            elif of == FLAG:
                at = _put(to, at, int64(there[column, row]), 1)
            else:
                at = _put(to, at, held, size)
