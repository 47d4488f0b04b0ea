"""Spans of bytes moved and compared by machine code."""

from __future__ import annotations

import numpy as np
from numba import types

from schemas.compiled import (
    I4,
    I8,
    U1,
    Address,
    Bytes,
    Ints,
    Small,
    address,
    compiled,
    int64,
    move,
    part,
    put_word,
    word,
)


@compiled(types.void, U1, I8, I4, U1)
def gather(source: Bytes, spans: Ints, offsets: Small, to: Bytes) -> None:
    """Copy spans, as `schemas.kernels` describes them, to where each belongs."""
    into, out_of = address(to), address(source)
    for i in range(len(spans)):
        move(into, int64(offsets[i]), out_of, spans[i] >> 32, spans[i] & 0xFFFFFFFF)


@compiled(types.void, U1, I8, I8, I8, U1, I8)
def append_rows(
    source: Bytes, start: Ints, size: Ints, rows: Ints, to: Bytes, starts: Ints
) -> None:
    """Copy some rows one behind the other, each behind its length in 4 bytes.

    Where each begins is in `starts`; 4 bytes behind the last are changed.
    """
    into, out_of, at = address(to), address(source), 0
    for i in range(len(rows)):
        row = rows[i]
        put_word(into, at, np.uint64(size[row]))
        at += 4
        starts[i] = at
        move(into, at, out_of, start[row], size[row])
        at += size[row]


@part
def _same(data: Address, a: int, b: int, size: int) -> bool:
    """Whether so many bytes are the same at two places."""
    for i in range(0, size, 8):
        differ = word(data, a + i) ^ word(data, b + i)
        if size - i < 8:
            differ <<= np.uint64(64 - 8 * (size - i))
        if differ:
            return False
    return True


@part
def _same_span(data: Address, a: int, b: int) -> bool:
    """Whether two spans have the same bytes."""
    size = a & 0xFFFFFFFF
    return size == b & 0xFFFFFFFF and _same(data, a >> 32, b >> 32, size)


@compiled(types.int64, U1, I8, I8, U1, I8, I8)
def number_pairs(
    rows: Bytes, spans: Ints, others: Ints, ours: Bytes, number: Ints, first: Ints
) -> int:
    """Number the pairs of texts that our rows have, in order; return how many there are.

    Which of them a row has is in `number`, and the first row that has each in `first`.
    """
    data = address(rows)
    n_pairs, pair = 0, 0
    for row in range(len(spans)):
        if not ours[row]:
            continue
        for i in range(n_pairs + 1):  # most likely the same again, or the next one
            pair = (pair + 1) % n_pairs if i else pair
            if i == n_pairs:
                pair = n_pairs
                first[pair] = row
                n_pairs += 1
                break
            known = first[pair]
            if _same_span(data, spans[known], spans[row]) and _same_span(
                data, others[known], others[row]
            ):
                break
        number[row] = pair
    return n_pairs


@compiled(types.void, U1, I8, U1)
def mark_nul(rows: Bytes, spans: Ints, marked: Bytes) -> None:
    """Mark the rows whose span has a NUL."""
    data = address(rows)
    ones, tops = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    for row in range(len(spans)):
        start, size = spans[row] >> 32, spans[row] & 0xFFFFFFFF
        found = np.uint64(0)
        for i in range(0, size, 8):
            some = word(data, start + i)
            if size - i < 8:
                some |= ~np.uint64(0) << np.uint64(8 * (size - i))
            found |= (some - ones) & ~some & tops
        if found:
            marked[row] = 1
