"""The forms that MessagePack gives values, and which of them canonical bytes have.

https://github.com/msgpack/msgpack/blob/master/spec.md, less nil, float 32 and extensions, which are
not written.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Kind = Literal["text", "bytes", "array", "map", "integer", "float", "bool"]


class NotCanonical(ValueError):
    """Bytes may say what they say in another form; decode and encode them to know."""


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
KINDS: tuple[Kind, ...] = ("text", "bytes", "array", "map", "integer", "float", "bool")

SMALL: dict[str, tuple[int, int]] = {
    "map": (0x80, 0x8F),
    "array": (0x90, 0x9F),
    "text": (0xA0, 0xBF),
}
"""Tags that hold the size themselves."""


def _table(dtype: str) -> NDArray[Any]:
    return np.zeros(256, dtype)


KIND, N_HEADER, INLINE, LEAST = _table("u1"), _table("i8"), _table("i8"), _table("i8")
"""By tag: 1 and more for each of `KINDS`, and 0 for what is not written; bytes behind the tag that
hold the number or the size; the number or size that is in the tag; the least size of its form."""
for _form in _FORMS:
    _tags = np.arange(_form.first, _form.last + 1)
    KIND[_tags] = 1 + KINDS.index(_form.kind)
    N_HEADER[_tags] = _form.n_header
    LEAST[_tags] = _form.least
    INLINE[_tags] = _tags - _form.first
IS_KIND: dict[Kind, NDArray[np.bool_]] = {kind: KIND == 1 + i for i, kind in enumerate(KINDS)}
INLINE[0xE0:] = np.arange(-32, 0)
_signed_least = {0xD0: -33, 0xD1: -(1 << 7) - 1, 0xD2: -(1 << 15) - 1, 0xD3: -(1 << 31) - 1}
"""The largest number that each signed form is the shortest for; numbers from 0 are unsigned."""
_unsigned_least = {0xCC: 1 << 7, 0xCD: 1 << 8, 0xCE: 1 << 16, 0xCF: 1 << 32}


def wide_type(tag: int) -> str:
    """Return the type of the whole numbers that stand behind a tag."""
    return f">{'iu'[tag < 0xD0]}{N_HEADER[tag]}"


def shortest(found: NDArray[Any], tag: int) -> NDArray[np.int64]:
    """Return the whole numbers behind a tag.

    Raises:
        NotCanonical: a shorter form would hold one of them, or 64 bits do not.
    """
    if tag < 0xD0:
        plain = int(found.min()) >= _unsigned_least[tag] and int(found.max()) < 1 << 63
    else:
        plain = int(found.max()) <= _signed_least[tag]
    if not plain:
        raise NotCanonical
    return found.astype(np.int64)
