"""Arrow columns for rows of any topic, made from the types of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pyarrow as pa

from schemas.events import vector_bytes

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_FACTS = pa.map_(pa.string(), pa.float64())
_JSON = pa.string()
_encode = msgspec.json.Encoder(order="deterministic").encode

PLACE = (("partition", pa.int32()), ("offset", pa.int64()), ("index", pa.int32()))
"""Where a row stood in its topic; before its own fields, whose names win."""


def event_schema(kinds: Sequence[type[msgspec.Struct]]) -> pa.Schema:
    """Return the columns that hold rows of all these kinds; what a kind has not is null.

    Facts become maps, vectors and masks bytes, and what is nested or differs between kinds JSON.
    """
    found: dict[str, pa.DataType] = {**dict(PLACE), "type": pa.string()}
    own: set[str] = set()
    for kind in kinds:
        for name, hint in get_type_hints(kind).items():
            if name not in kind.__struct_fields__:
                continue
            arrow = _arrow(hint)
            differs = name in own and found[name] != arrow
            found[name] = _JSON if differs else arrow
            own.add(name)
    return pa.schema(list(found.items()))


def event_table(
    schema: pa.Schema, places: Sequence[tuple[int, int, int]], rows: Sequence[Any]
) -> pa.Table:
    """Return rows and their places as a table of `event_schema`."""
    columns = []
    place_of = {name: i for i, (name, _) in enumerate(PLACE)}
    for field in schema:
        if field.name == "type":
            values = [row.__struct_config__.tag for row in rows]
        elif field.name in place_of and not any(hasattr(row, field.name) for row in rows):
            values = [place[place_of[field.name]] for place in places]
        else:
            values = [_value(field.type, getattr(row, field.name, None)) for row in rows]
        columns.append(pa.array(values, type=field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _arrow(hint: Any) -> pa.DataType:
    if get_origin(hint) in (Union, UnionType):
        options = [o for o in get_args(hint) if o is not type(None)]
        if bytes in options:  # a vector or a mask, in either of its forms
            return pa.binary()
        return _arrow(options[0]) if len(options) == 1 else _JSON
    if get_origin(hint) is Literal:
        return pa.string()
    if hint is bytes:
        return pa.binary()
    if hint == dict[str, float]:
        return _FACTS
    return _PLAIN.get(hint, _JSON)


def _value(arrow: pa.DataType, value: Any) -> Any:
    if value is None:
        return None
    if arrow == pa.binary():
        return vector_bytes(value)
    if arrow == _FACTS:
        return list(value.items())
    if arrow == _JSON and not isinstance(value, str):
        return _encode(value).decode()
    return value
