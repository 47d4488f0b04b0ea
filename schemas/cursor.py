"""Many MessagePack values of one shape, read side by side: a step for each field, not for each row.

Only canonical bytes are understood, those that `schemas.arrow.encode_row` writes: the shortest
header for every value, keys in order, nothing that is left out by default. So what is read here has
these very bytes when it is written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.forms import (
    INLINE,
    IS_KIND,
    KIND,
    KINDS,
    LEAST,
    N_HEADER,
    SMALL,
    Kind,
    NotCanonical,
    shortest,
    wide_type,
)

Positions = NDArray[np.int64]
Where = slice | Positions
"""Rows that have a value: all of them, as a slice, or those of these numbers."""
ALL = slice(None)


class Spans(msgspec.Struct, frozen=True):
    """Where values lie in the data, row by row."""

    start: Positions
    size: Positions
    same: bytes | None = None
    """What all rows have, where that was seen without looking each up."""


AHEAD = 128
"""Bytes that are copied out of every row at once: a few fields of it. Copying twice as many costs
half as much again, and a text of another length in each row makes the rest of them useless."""
_SHORT = 48
"""Texts up to here are looked at as a whole, to see whether all rows have the same one."""
_ALIKE = b"\1" * AHEAD


class Key:
    """The bytes of a map's key, as the words in which they are looked for."""

    def __init__(self, name: str) -> None:
        self.data = msgspec.msgpack.encode(name)
        self.size = len(self.data)
        self.words = [
            (i, _ones(self.size - i), np.uint64(int.from_bytes(self.data[i : i + 8], "little")))
            for i in range(0, self.size, 8)
        ]
        self.reach = 8 * len(self.words)


def _ones(n_bytes: int) -> np.uint64:
    """Return what leaves of a word its first bytes."""
    return np.uint64((1 << 8 * min(n_bytes, 8)) - 1)


class Cursor:
    """A place in each of N encoded rows that lie one behind the other in one buffer.

    Rows of one shape differ in a few bytes. So the bytes ahead are copied out of all rows at once
    and compared: what all rows have is then looked at in the first of them, and what differs lies
    side by side. That holds until a field has another size in some row, where they are copied anew.
    """

    def __init__(self, data: bytearray, starts: Positions) -> None:
        """Begin at the rows' starts; `AHEAD` bytes must follow the last row."""
        self.data = data
        self.n = len(starts)
        self._bytes = np.frombuffer(data, np.uint8)
        self._views: dict[str, NDArray[Any]] = {}
        self._at = starts.copy()
        """Where the rows were read when the bytes ahead were copied."""
        self._passed = 0
        """How many bytes have been read since, in each row as many."""
        self._ahead: NDArray[np.uint8] | None = None
        self._first = b""
        """The first row's bytes ahead."""
        self._alike = b""
        """1 for each of them that all rows have, 0 for others."""

    @property
    def at(self) -> Positions:
        """Where each row is read next."""
        return self._at + self._passed if self._passed else self._at

    def view(self, dtype: str) -> NDArray[Any]:
        """Return the data as values of a type that begin at each of its bytes."""
        view = self._views.get(dtype)
        if view is None:
            of = np.dtype(dtype)
            view = np.ndarray((len(self.data) - of.itemsize + 1,), of, self.data, strides=(1,))
            self._views[dtype] = view
        return view

    def _see(self, n_bytes: int) -> int:
        """Return where so many bytes are among those ahead."""
        if self._ahead is None or self._passed + n_bytes > AHEAD:
            self._at, self._passed = self.at, 0
            ahead = self.view(f"V{AHEAD}")[self._at]
            self._ahead = ahead.view(np.uint8)
            self._first = ahead[0].tobytes()
            self._alike = _alike(ahead.view(np.uint64))
        return self._passed

    def _column(self, place: int, dtype: str) -> NDArray[Any]:
        """Return the values that stand at a place of the bytes ahead, row by row."""
        return np.ndarray((self.n,), dtype, self._ahead, place, (AHEAD,))

    def _all(self, place: int, size: int) -> bytes | None:
        """Return the bytes at a place of those ahead, if all rows have the same ones."""
        if self._alike[place : place + size] == _ALIKE[:size]:
            return self._first[place : place + size]
        return None

    def expect(self, key: Key) -> None:
        """Go over a key that all rows must have."""
        if self._all(self._see(key.size), key.size) != key.data:
            raise NotCanonical
        self._passed += key.size

    def find(self, key: Key) -> Where | None:
        """Go over a key where it stands; return the rows that have it, None where none has."""
        place = self._see(key.reach)
        found, alike = self._first[place : place + key.size], self._alike[place:]
        if found == key.data and alike.startswith(_ALIKE[: key.size]):
            self._passed += key.size
            return ALL
        if any(same and a != b for a, b, same in zip(found, key.data, alike, strict=False)):
            return None
        there = np.ones(self.n, np.bool_)
        for i, mask, word in key.words:
            there &= (self._column(place + i, "<u8") & mask) == word
        some = np.flatnonzero(there)
        if not len(some):
            return None
        self.go(some, self.at[some] + key.size)
        return some

    def go(self, where: Where, to: Positions) -> None:
        """Read rows on from other places."""
        if isinstance(where, slice):
            self._at = to  # where it was may be in use
        else:
            self._at = self.at
            self._at[where] = to
        self._passed, self._ahead = 0, None

    def text(self, where: Where) -> Spans:
        """Read texts, whose bytes are not looked at."""
        return self._sized(where, "text")

    def binary(self, where: Where) -> Spans:
        """Read byte strings."""
        return self._sized(where, "bytes")

    def begin(self, where: Where, kind: Literal["array", "map"]) -> Positions:
        """Step into arrays or maps; return how many items they have."""
        if isinstance(where, slice) and (seen := self._header_ahead(kind)):
            n_header, size = seen
            self._passed += n_header
            return np.full(self.n, size) if isinstance(size, int) else size
        start, size = self._header(where, kind)
        self.go(where, start)
        return size

    def integer(self, where: Where) -> NDArray[np.int64]:
        """Read whole numbers of 64 bits."""
        if isinstance(where, slice) and (values := self._integer_ahead()) is not None:
            return values
        at = self.at[where]
        tags, low, high = self._tags(at, "integer")
        if high < 0x80:
            self.go(where, at + 1)
            return tags.astype(np.int64)
        if low == high and N_HEADER[low]:
            self.go(where, at + (1 + int(N_HEADER[low])))
            return self._wide(at, low)
        n_header, values = N_HEADER[tags], INLINE[tags]
        for wide in np.flatnonzero(np.bincount(tags[n_header > 0], minlength=1)).tolist():
            of = tags == wide
            values[of] = self._wide(at[of], wide)
        self.go(where, at + 1 + n_header)
        return values

    def _integer_ahead(self) -> NDArray[np.int64] | None:
        """Read whole numbers that have the same size in all rows; None where they have not."""
        place = self._see(9)
        if (tag := self._all(place, 1)) is not None:
            if not IS_KIND["integer"][tag[0]]:
                raise NotCanonical
            n_bytes = int(N_HEADER[tag[0]])
            self._passed += 1 + n_bytes
            if not n_bytes:
                return np.full(self.n, INLINE[tag[0]])
            return shortest(self._column(place + 1, wide_type(tag[0])), tag[0])
        tags = self._column(place, "u1")
        if tags.max() >= 0x80:
            return None
        self._passed += 1
        return tags.astype(np.int64)

    def _wide(self, at: Positions, tag: int) -> NDArray[np.int64]:
        """Return numbers that stand behind a tag."""
        return shortest(self.view(wide_type(tag))[at + 1], tag)

    def real(self, where: Where) -> NDArray[np.float64]:
        """Read floats."""
        if isinstance(where, slice):
            place = self._see(9)
            if self._all(place, 1) != b"\xcb":
                raise NotCanonical
            self._passed += 9
            return self._column(place + 1, ">f8").astype(np.float64)
        at = self.at[where]
        self._tags(at, "float")
        self.go(where, at + 9)
        values: NDArray[np.float64] = self.view(">f8")[at + 1].astype(np.float64)
        return values

    def boolean(self, where: Where) -> NDArray[np.bool_]:
        """Read truth values."""
        at = self.at[where]
        tags, _, _ = self._tags(at, "bool")
        if isinstance(where, slice):
            self._passed += 1
        else:
            self.go(where, at + 1)
        values: NDArray[np.bool_] = tags == 0xC3
        return values

    def skip(self, where: Where) -> Spans:
        """Go over values whatever they are."""
        begin = self.at[where]
        at, left = begin.copy(), np.ones(len(begin), np.int64)
        while len(active := np.flatnonzero(left)):
            here = at[active]
            tags = self._bytes[here]
            kinds = KIND[tags]
            if not kinds.all():
                raise NotCanonical
            size = self._sizes(here, tags)
            n_header, below = N_HEADER[tags], np.zeros(len(active), np.int64)
            below[kinds == 1 + KINDS.index("array")] = 1
            below[kinds == 1 + KINDS.index("map")] = 2
            payload = kinds <= 1 + KINDS.index("bytes")
            at[active] = here + 1 + n_header + np.where(payload, size, 0)
            left[active] += below * size - 1
        self.go(where, at)
        return Spans(begin, at - begin)

    def parts(self, spans: Spans) -> Sequence[bytearray]:
        """Return the bytes of spans."""
        ends = (spans.start + spans.size).tolist()
        return [self.data[a:b] for a, b in zip(spans.start.tolist(), ends, strict=True)]

    def _sized(self, where: Where, kind: Kind) -> Spans:
        if isinstance(where, slice) and (seen := self._header_ahead(kind)):
            n_header, size = seen
            if isinstance(size, int):
                return self._span(n_header, size)
            start = self._at + (self._passed + n_header)
        else:
            start, size = self._header(where, kind)
        self.go(where, start + size)
        return Spans(start, size)

    def _span(self, n_header: int, size: int) -> Spans:
        """Go over values of one size behind a header that all rows have."""
        same = None
        if size <= _SHORT:
            same = self._all(self._see(n_header + size) + n_header, size)
        start = self._at + (self._passed + n_header)
        self._passed += n_header + size
        return Spans(start, np.full(self.n, size), same)

    def _header_ahead(self, kind: Kind) -> tuple[int, int | Positions] | None:
        """Return how long the values' headers are, and how many bytes or items follow.

        None where the headers have several lengths.
        """
        place = self._see(5)
        tag = self._all(place, 1)
        if tag is None:
            first, last = SMALL.get(kind, (1, 0))
            tags = self._column(place, "u1")
            if first <= tags.min() and tags.max() <= last:
                return 1, (tags - np.uint8(first)).astype(np.int64)
            return None
        if not IS_KIND[kind][tag[0]]:
            raise NotCanonical
        n_header, least = int(N_HEADER[tag[0]]), int(LEAST[tag[0]])
        if not n_header:
            return 1, int(INLINE[tag[0]])
        told, size = self._all(place + 1, n_header), None
        if told is not None:
            size = int.from_bytes(told, "big")
        else:
            sizes = self._column(place + 1, f">u{n_header}").astype(np.int64)
        if (sizes.min() if size is None else size) < least:
            raise NotCanonical
        return 1 + n_header, sizes if size is None else size

    def _header(self, where: Where, kind: Kind) -> tuple[Positions, Positions]:
        """Return where the bytes or items begin, and how many they are."""
        at = self.at[where]
        tags, low, high = self._tags(at, kind)
        n_header, least = int(N_HEADER[low]), int(LEAST[low])
        if low == high and n_header:
            size = self.view(f">u{n_header}")[at + 1].astype(np.int64)
            if least and int(size.min()) < least:
                raise NotCanonical
            return at + (1 + n_header), size
        first, last = SMALL.get(kind, (1, 0))
        if first <= low and high <= last:  # most are: the tag holds the size
            return at + 1, (tags - np.uint8(first)).astype(np.int64)
        size = self._sizes(at, tags)
        if (size < LEAST[tags]).any():
            raise NotCanonical
        return at + 1 + N_HEADER[tags], size

    def _tags(self, at: Positions, kind: Kind) -> tuple[NDArray[np.uint8], int, int]:
        """Return the tags of values of a kind, the least and the greatest of them."""
        tags = self._bytes[at]
        low, high = int(tags.min()), int(tags.max())
        known = IS_KIND[kind]
        if not (known[low] if low == high else known[tags].all()):
            raise NotCanonical
        return tags, low, high

    def _sizes(self, at: Positions, tags: NDArray[np.uint8]) -> Positions:
        widths = N_HEADER[tags]
        sizes: Positions = INLINE[tags]
        if widths.any():
            word = self.view(">u4")[at + 1].astype(np.int64)
            sizes = np.where(widths > 0, word >> np.maximum(32 - 8 * widths, 0), sizes)
        return sizes


def _alike(words: NDArray[np.uint64]) -> bytes:
    """Return 1 for every byte of the first `AHEAD` that all rows have, 0 for others."""
    width = AHEAD // 8
    differ = words[width:] ^ words[:-width]  # from the row before: one step for all rows
    n = len(differ) // width
    while n > 1:
        half = n // 2
        differ[: half * width] |= differ[(n - half) * width : n * width]
        n -= half
    return b"\1" * AHEAD if not n else (differ[:width].view(np.uint8) == 0).tobytes()
