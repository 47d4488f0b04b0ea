"""The fields of an encoded `Experience`, and what rows say in them."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from msgspec import inspect
from numpy.typing import NDArray

from schemas.compiled import Bytes, Ints
from schemas.kernels import (
    BOOL,
    BYTES,
    COUNT,
    FACTS,
    FLAG,
    FLOAT,
    INTEGER,
    LANGUAGE,
    LITERAL,
    REQUIRED,
    SLOT,
    TEXT,
    VALUE,
    walk_rows,
)
from schemas.records import Experience

_WORDS = 3
"""Of 8 bytes in which keys are looked for."""


class NotCanonical(ValueError):
    """Bytes may say what they say in another form; decode and encode them to know."""


class Found(NamedTuple):
    """What is found in N rows, as `schemas.kernels` describes it."""

    there: NDArray[np.uint8]
    """[F, N]."""
    value: Ints
    """[V, N]."""


class Field(msgspec.Struct, frozen=True):
    """A column that a row's bytes have a value for, or a key that all rows have."""

    name: str
    key: bytes
    kind: int
    required: bool = True
    within: bool = False
    """Whether it is the language's."""


class Plan:
    """The fields that are read of rows, and where what is found of each stands."""

    def __init__(self, fields: list[Field]) -> None:
        self._place = {field.name: i for i, field in enumerate(fields)}
        self._n_values = sum(field.kind not in (LITERAL, LANGUAGE) for field in fields)
        slots = np.cumsum([field.kind not in (LITERAL, LANGUAGE) for field in fields]) - 1
        self.layout: Ints = np.array(
            [
                (f.kind, f.required, f.within, len(f.key), slot, *_words(f.key))
                for f, slot in zip(fields, slots, strict=True)
            ],
            np.int64,
        )
        """[F, 11], as `schemas.kernels` describes it."""

    def empty(self, n: int) -> Found:
        """Return what is found in n rows before they are looked at."""
        return Found(
            np.zeros((len(self.layout), n), np.uint8),
            np.zeros((self._n_values, n), np.int64),
        )

    def place(self, name: str) -> int:
        """Return which of the fields one is."""
        return self._place[name]

    def slot(self, name: str) -> int:
        """Return which of the values a field fills."""
        return int(self.layout[self._place[name], SLOT])

    def values(self, found: Found, name: str) -> Ints:
        """Return [N] a field's values; 0 where there is none."""
        values: Ints = found.value[self.slot(name)]
        return values


def _words(key: bytes) -> list[int]:
    """Return the words of a key, each before the bits that count in it."""
    if len(key) > 8 * _WORDS:
        msg = f"a field's key must have at most {8 * _WORDS} bytes; got {key!r}"
        raise ValueError(msg)
    words: list[int] = []
    for at in range(0, 8 * _WORDS, 8):
        part = key[at : at + 8]
        for number in (int.from_bytes(part, "little"), (1 << 8 * len(part)) - 1):
            words.append(number - (number >> 63 << 64))  # the same bits, signed
    return words


_encode = msgspec.msgpack.encode


def _fields_of(struct: type[msgspec.Struct], before: str = "") -> list[Field]:
    """Return the fields that a struct's bytes have, in order; raises `TypeError` for a new kind."""
    fields: list[Field] = []
    for field in cast(inspect.StructType, inspect.type_info(struct)).fields:
        name, key = before + field.name, _encode(field.encode_name)
        of = field.type
        if isinstance(of, inspect.UnionType):
            (of,) = (t for t in of.types if not isinstance(t, inspect.NoneType))
        if isinstance(of, inspect.StructType) and of.array_like:
            parts = [f"{name}_{part.name}" for part in of.fields]
            first = _encode([None] * len(parts))[:1]
            fields.append(Field(name, key + first, LITERAL))
            fields += [Field(part, b"", INTEGER) for part in parts]
        elif isinstance(of, inspect.StructType):
            fields.append(Field(f"{name}_used", key, LANGUAGE, field.required))
            below = _fields_of(of.cls, f"{name}_")
            fields += [msgspec.structs.replace(f, within=True) for f in below]
        else:
            fields.append(Field(name, key, _kind(of, field.default), field.required))
    return fields


def _kind(of: inspect.Type, default: Any) -> int:
    if isinstance(of, inspect.DictType):
        return FACTS if isinstance(of.value_type, inspect.FloatType) else VALUE
    kinds: dict[type[inspect.Type], int] = {
        inspect.StrType: TEXT,
        inspect.LiteralType: TEXT,
        inspect.BytesType: BYTES,
        inspect.IntType: COUNT if default == 0 else INTEGER,
        inspect.FloatType: FLOAT,
        inspect.BoolType: FLAG if default is False else BOOL,
        inspect.ListType: VALUE,
    }
    if type(of) not in kinds:
        msg = f"a field must be of a kind that rows are walked for; got {of}: add it to the walk"
        raise TypeError(msg)
    return kinds[type(of)]


_TAG = Field("", _encode("type") + _encode("experience.v2"), LITERAL)
_FIELDS = [_TAG, *_fields_of(Experience)]
_N_HEAD = 1 + [field.name for field in _FIELDS].index("settled_time_ms")
ROW, HEAD = Plan(_FIELDS), Plan(_FIELDS[:_N_HEAD])
"""All fields of a row, and those up to the last that windows are cut by."""


@cache
def _place_of(name: str) -> int | None:
    """Return where what is found says which rows have a field; None for one that all have."""
    place = ROW.place(name)
    return None if ROW.layout[place, REQUIRED] else place


class Rows(msgspec.Struct, frozen=True):
    """What N encoded rows say."""

    data: Bytes
    n: int
    found: Found

    def there(self, name: str) -> Bytes | None:
        """Return [N] 1 where a row has a field; None for one that all rows must have."""
        place = _place_of(name)
        return None if place is None else self.found.there[place]

    def having(self, name: str) -> NDArray[np.intp]:
        """Return which rows have a field."""
        there = self.there(name)
        return np.arange(self.n) if there is None else np.flatnonzero(there)

    def values(self, name: str) -> Ints:
        """Return what `Plan.values` does."""
        return ROW.values(self.found, name)

    def parts(self, name: str, rows: NDArray[np.intp]) -> list[bytes]:
        """Return the bytes of a field of some rows."""
        spans = self.values(name)[rows]
        starts = spans >> 32
        ends = (starts + (spans & 0xFFFFFFFF)).tolist()
        return [self.data[a:b].tobytes() for a, b in zip(starts.tolist(), ends, strict=True)]


def walk(data: Bytes, starts: Ints, sizes: Ints) -> Rows:
    """Return what rows say.

    Raises:
        NotCanonical: one is not in the form that `schemas.packed.encode_row` gives it.
    """
    found = ROW.empty(len(starts))
    if walk_rows(data, starts, sizes, ROW.layout, *found) >= 0:
        raise NotCanonical
    return Rows(data, len(starts), found)
