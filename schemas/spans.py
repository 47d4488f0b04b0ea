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
    fetch,
    int64,
    move,
    part,
    put_word,
    swapped,
    word,
)

_AHEAD = 16
"""Spans that are brought into the caches before they are looked at: rows lie far apart, and to wait
for each takes longer than all else that is done with it."""


@compiled(types.int64, I8, I4)
def add_sizes(spans: Ints, offsets: Small) -> int:
    """Write [N + 1] where each span begins when they lie one behind the other; return the end."""
    end = int64(offsets[0])
    for i in range(len(spans)):
        end += spans[i] & 0xFFFFFFFF
        offsets[i + 1] = end
    return end


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
    return bool(size == b & 0xFFFFFFFF) and _same(data, a >> 32, b >> 32, size)


@part
def _hash(data: Address, span: int) -> int:
    start, size = span >> 32, span & 0xFFFFFFFF
    mixed = np.uint64(size)
    for i in range(0, size, 8):
        some = word(data, start + i)
        if size - i < 8:
            some <<= np.uint64(64 - 8 * (size - i))
        # a product's low bytes know only the low bytes of what it is of, so its high ones go there
        mixed = swapped((mixed ^ some) * np.uint64(0x9E3779B97F4A7C15))
    return int64(mixed >> np.uint64(1))


@compiled(types.int64, U1, I8, I4, I8, I4, I4)
def number_texts(
    rows: Bytes, spans: Ints, number: Small, first: Ints, follows: Small, table: Small
) -> int:
    """Number the texts that there are, in order; return how many.

    Args:
        rows: what the spans are of.
        spans: [N] a text each.
        number: [N] becomes which of the texts each is.
        first: [N] becomes the span of each text.
        follows: [N] of 0: which text came behind each, and is likely to come again.
        table: [a power of two, more than N] of -1: where texts are looked up by their hash.
    """
    data, last, n = address(rows), len(table) - 1, 0
    before = 0
    for i in range(len(spans)):
        span = spans[i]
        fetch(data, spans[min(i + _AHEAD, len(spans) - 1)] >> 32)
        likely = int64(follows[before])
        if n == 0 or not _same_span(data, span, first[likely]):
            at = _hash(data, span) & last
            while table[at] >= 0 and not _same_span(data, span, first[table[at]]):
                at = (at + 1) & last
            if table[at] < 0:
                table[at], first[n] = n, span
                n += 1
            likely = int64(table[at])
            follows[before] = likely
        number[i] = before = likely
    return n


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
