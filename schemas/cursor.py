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

Positions = NDArray[np.int64]
Where = slice | Positions
"""Rows that have a value: all of them, as a slice, or those of these numbers."""
ALL = slice(None)

Kind = Literal["text", "bytes", "array", "map", "integer", "float", "bool"]


class NotCanonical(ValueError):
    """Bytes may say what they say in another form; decode and encode them to know."""


class Spans(msgspec.Struct, frozen=True):
    """Where values lie in the data, row by row."""

    start: Positions
    size: Positions


class _Form(msgspec.Struct, frozen=True):
    """A range of tags of one kind and what follows them."""

    first: int
    last: int
    kind: Kind
    n_header: int
    """Bytes behind the tag that hold the number or the size; 0 where the tag does."""
    least: int = 0
    """The smallest size that is not written shorter."""


_FORMS = (
    _Form(0x00, 0x7F, "integer", 0),
    _Form(0xE0, 0xFF, "integer", 0),
    *(_Form(tag, tag, "integer", 1 << (tag & 3)) for tag in range(0xCC, 0xD4)),
    _Form(0x80, 0x8F, "map", 0),
    _Form(0xDE, 0xDE, "map", 2, 16),
    _Form(0xDF, 0xDF, "map", 4, 1 << 16),
    _Form(0x90, 0x9F, "array", 0),
    _Form(0xDC, 0xDC, "array", 2, 16),
    _Form(0xDD, 0xDD, "array", 4, 1 << 16),
    _Form(0xA0, 0xBF, "text", 0),
    _Form(0xD9, 0xD9, "text", 1, 32),
    _Form(0xDA, 0xDA, "text", 2, 1 << 8),
    _Form(0xDB, 0xDB, "text", 4, 1 << 16),
    _Form(0xC4, 0xC4, "bytes", 1),
    _Form(0xC5, 0xC5, "bytes", 2, 1 << 8),
    _Form(0xC6, 0xC6, "bytes", 4, 1 << 16),
    _Form(0xC2, 0xC3, "bool", 0),
    _Form(0xCB, 0xCB, "float", 8),
)
"""https://github.com/msgpack/msgpack/blob/master/spec.md, less nil, float 32 and extensions, which
are not written."""
_KINDS: tuple[Kind, ...] = ("text", "bytes", "array", "map", "integer", "float", "bool")


_SMALL: dict[str, tuple[int, int]] = {
    "map": (0x80, 0x8F),
    "array": (0x90, 0x9F),
    "text": (0xA0, 0xBF),
}
"""Tags that hold the size themselves."""


def _table(dtype: str) -> NDArray[Any]:
    return np.zeros(256, dtype)


_kind, _n_header, _inline, _least = _table("u1"), _table("i8"), _table("i8"), _table("i8")
for _form in _FORMS:
    _tags = np.arange(_form.first, _form.last + 1)
    _kind[_tags] = 1 + _KINDS.index(_form.kind)
    _n_header[_tags] = _form.n_header
    _least[_tags] = _form.least
    _inline[_tags] = _tags - _form.first
_is_kind = {kind: _kind == 1 + i for i, kind in enumerate(_KINDS)}
_inline[0xE0:] = np.arange(-32, 0)
_signed_least = {0xD0: -33, 0xD1: -(1 << 7) - 1, 0xD2: -(1 << 15) - 1, 0xD3: -(1 << 31) - 1}
"""The largest number that each signed form is the shortest for; numbers from 0 are unsigned."""
_unsigned_least = {0xCC: 1 << 7, 0xCD: 1 << 8, 0xCE: 1 << 16, 0xCF: 1 << 32}


class Key:
    """The bytes of a map's key, as the words in which they are looked for."""

    def __init__(self, name: str) -> None:
        data = msgspec.msgpack.encode(name)
        self.size = len(data)
        self.words = [
            (i, _ones(self.size - i), np.uint64(int.from_bytes(data[i : i + 8], "little")))
            for i in range(0, self.size, 8)
        ]


def _ones(n_bytes: int) -> np.uint64:
    """Return what leaves of a word its first bytes."""
    return np.uint64((1 << 8 * min(n_bytes, 8)) - 1)


class Cursor:
    """A place in each of N encoded rows that lie one behind the other in one buffer."""

    def __init__(self, data: bytearray, starts: Positions) -> None:
        """Begin at the rows' starts; as much as the longest key must follow the last row."""
        self.data = data
        self.n = len(starts)
        self.at = starts.copy()
        """Where each row is read next."""
        self._bytes = np.frombuffer(data, np.uint8)
        self._views: dict[str, NDArray[Any]] = {}
        self._words: NDArray[np.uint64] | None = None
        self._same = False
        """Whether all rows have the same word here: then one of them is looked at for all."""

    def view(self, dtype: str) -> NDArray[Any]:
        """Return the data as values of a type that begin at each of its bytes."""
        view = self._views.get(dtype)
        if view is None:
            of = np.dtype(dtype)
            view = np.ndarray((len(self.data) - of.itemsize + 1,), of, self.data, strides=(1,))
            self._views[dtype] = view
        return view

    def expect(self, key: Key) -> None:
        """Go over a key that all rows must have."""
        words = self.view("<u8")
        for i, mask, word in key.words:
            if i:
                found = words[self.at + i]
            else:
                found = words[self.at] if self._words is None else self._words
            if not ((found & mask) == word).all():
                raise NotCanonical
        self.go(ALL, self.at + key.size)

    def find(self, key: Key) -> Where | None:
        """Go over a key where it stands; return the rows that have it, None where none has."""
        if self._words is None:
            self._words = self.view("<u8")[self.at]
            self._same = bool((self._words == self._words[:1]).all())
        _, mask, word = key.words[0]
        if self._same:
            if (self._words[0] & mask) != word:
                return None
            where: Where = ALL
        else:
            there = (self._words & mask) == word
            if not there.any():
                return None
            where = ALL if there.all() else np.flatnonzero(there)
        found = self._with_rest(key, where) if len(key.words) > 1 else where
        if found is not None:
            self.go(found, self.at[found] + key.size)
        return found

    def _with_rest(self, key: Key, where: Where) -> Where | None:
        """Return the rows whose further words are the key's, too."""
        at = self.at[where]
        there = np.ones(len(at), np.bool_)
        for i, mask, word in key.words[1:]:
            there &= (self.view("<u8")[at + i] & mask) == word
        if there.all():
            return where
        return np.arange(self.n)[where][there] if there.any() else None

    def go(self, where: Where, to: Positions) -> None:
        """Read rows on from other places."""
        if isinstance(where, slice):
            self.at = to  # where it was may be in use
        else:
            self.at[where] = to
        self._words = None

    def text(self, where: Where) -> Spans:
        """Read texts, whose bytes are not looked at."""
        return self._sized(where, "text")

    def binary(self, where: Where) -> Spans:
        """Read byte strings."""
        return self._sized(where, "bytes")

    def begin(self, where: Where, kind: Literal["array", "map"]) -> Positions:
        """Step into arrays or maps; return how many items they have."""
        start, size = self._header(where, kind)
        self.go(where, start)
        return size

    def integer(self, where: Where) -> NDArray[np.int64]:
        """Read whole numbers of 64 bits."""
        at = self.at[where]
        tags, low, high = self._tags(at, "integer")
        if high < 0x80:
            self.go(where, at + 1)
            return tags.astype(np.int64)
        if low == high and _n_header[low]:
            self.go(where, at + (1 + int(_n_header[low])))
            return self._wide(at, low)
        n_header, values = _n_header[tags], _inline[tags]
        for wide in np.flatnonzero(np.bincount(tags[n_header > 0], minlength=1)).tolist():
            of = tags == wide
            values[of] = self._wide(at[of], wide)
        self.go(where, at + 1 + n_header)
        return values

    def _wide(self, at: Positions, tag: int) -> NDArray[np.int64]:
        """Return numbers that stand behind a tag."""
        found = self.view(f">{'iu'[tag < 0xD0]}{_n_header[tag]}")[at + 1]
        if tag < 0xD0:
            plain = int(found.min()) >= _unsigned_least[tag] and int(found.max()) < 1 << 63
        else:
            plain = int(found.max()) <= _signed_least[tag]
        if not plain:
            raise NotCanonical
        return found.astype(np.int64)

    def real(self, where: Where) -> NDArray[np.float64]:
        """Read floats."""
        at = self.at[where]
        self._tags(at, "float")
        self.go(where, at + 9)
        values: NDArray[np.float64] = self.view(">f8")[at + 1].astype(np.float64)
        return values

    def boolean(self, where: Where) -> NDArray[np.bool_]:
        """Read truth values."""
        at = self.at[where]
        tags, _, _ = self._tags(at, "bool")
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
            kinds = _kind[tags]
            if not kinds.all():
                raise NotCanonical
            size = self._sizes(here, tags)
            n_header, below = _n_header[tags], np.zeros(len(active), np.int64)
            below[kinds == 1 + _KINDS.index("array")] = 1
            below[kinds == 1 + _KINDS.index("map")] = 2
            payload = kinds <= 1 + _KINDS.index("bytes")
            at[active] = here + 1 + n_header + np.where(payload, size, 0)
            left[active] += below * size - 1
        self.go(where, at)
        return Spans(begin, at - begin)

    def constant(self, spans: Spans) -> bytes | None:
        """Return what all spans hold, if that is the same and short; None if not."""
        size = int(spans.size[0])
        if size > 16 or (spans.size != size).any():
            return None
        words = self.view("<u8")
        for i in range(0, size, 8):
            found = words[spans.start + i] & _ones(size - i)
            if (found != found[0]).any():
                return None
        begin = int(spans.start[0])
        return bytes(self.data[begin : begin + size])

    def parts(self, spans: Spans) -> Sequence[bytearray]:
        """Return the bytes of spans."""
        ends = (spans.start + spans.size).tolist()
        return [self.data[a:b] for a, b in zip(spans.start.tolist(), ends, strict=True)]

    def _sized(self, where: Where, kind: Kind) -> Spans:
        start, size = self._header(where, kind)
        self.go(where, start + size)
        return Spans(start, size)

    def _header(self, where: Where, kind: Kind) -> tuple[Positions, Positions]:
        """Return where the bytes or items begin, and how many they are."""
        at = self.at[where]
        tags, low, high = self._tags(at, kind)
        n_header, least = int(_n_header[low]), int(_least[low])
        if low == high and n_header:
            size = self.view(f">u{n_header}")[at + 1].astype(np.int64)
            if least and int(size.min()) < least:
                raise NotCanonical
            return at + (1 + n_header), size
        first, last = _SMALL.get(kind, (1, 0))
        if first <= low and high <= last:  # most are: the tag holds the size
            return at + 1, (tags - np.uint8(first)).astype(np.int64)
        size = self._sizes(at, tags)
        if (size < _least[tags]).any():
            raise NotCanonical
        return at + 1 + _n_header[tags], size

    def _tags(self, at: Positions, kind: Kind) -> tuple[NDArray[np.uint8], int, int]:
        """Return the tags of values of a kind, the least and the greatest of them."""
        tags = self._bytes[at]
        low, high = int(tags.min()), int(tags.max())
        known = _is_kind[kind]
        if not (known[low] if low == high else known[tags].all()):
            raise NotCanonical
        return tags, low, high

    def _sizes(self, at: Positions, tags: NDArray[np.uint8]) -> Positions:
        widths = _n_header[tags]
        sizes: Positions = _inline[tags]
        if widths.any():
            word = self.view(">u4")[at + 1].astype(np.int64)
            sizes = np.where(widths > 0, word >> np.maximum(32 - 8 * widths, 0), sizes)
        return sizes
