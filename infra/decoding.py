"""Records of any topic of ours as plain values, for people and for scripts."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from schemas.codec import BadEvent, decode_record
from schemas.model_events import ModelEvent, decode_model_event
from schemas.records import decode_dead_letter, decode_metric, decode_rows, decode_window
from schemas.topics import Topics

Plain = dict[str, Any]
Reveal = Callable[[object], object]
"""Gives an item back with players' text in clear."""


def decode(
    topics: Topics, topic: str, value: bytes | None, reveal: Reveal | None = None
) -> list[Plain]:
    """What a record of `topic` says, one plain dict an event or row.

    Bytes that cannot be decoded come as one dict with `error` and `n_bytes`.
    """
    if value is None:
        return [{"type": "tombstone"}]
    try:
        found = items(topics, topic, value)
        return [_plain(item if reveal is None else reveal(item)) for item in found]
    except (msgspec.MsgspecError, ValueError) as error:
        return [{"type": "undecodable", "error": str(error), "n_bytes": len(value)}]


def items(topics: Topics, topic: str, value: bytes) -> Iterator[object]:
    """What a record holds, as typed events and rows.

    Raises:
        msgspec.MsgspecError: the bytes are none of the topic's.
    """
    if topic == topics.game_events:
        yield from decode_record(value)
    elif topic == topics.experiences:
        yield from decode_rows(value)
    elif topic == topics.replay_windows:
        yield decode_window(value)
    elif topic == topics.models:
        yield decode_model_event(value)
    elif topic == topics.dead_letters:
        yield decode_dead_letter(value)
    elif topic == topics.metrics:
        yield decode_metric(value)
    else:
        yield {"type": "bytes", "n_bytes": len(value), "value": value}


def model_event(value: bytes | None) -> ModelEvent | None:
    """The event of a record of `models`; None for bytes that are none.

    The release fold dead-letters those, so whoever only looks may pass over them.
    """
    try:
        return decode_model_event(value or b"")
    except msgspec.MsgspecError:
        return None


def _plain(item: object) -> Plain:
    if isinstance(item, BadEvent):
        return {"type": "bad", **msgspec.structs.asdict(item)}
    plain: Plain = msgspec.to_builtins(item, builtin_types=(bytes,))
    return plain


def shorten(value: Any) -> Any:
    """The value with bytes replaced by their size."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, dict):
        return {key: shorten(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [shorten(inner) for inner in value]
    return value


class Filter(msgspec.Struct, frozen=True):
    """`field=value` or `field!=value`; a dot goes into what a field holds."""

    path: tuple[str, ...]
    value: str
    equal: bool = True

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """The filter of a command line.

        Raises:
            ValueError: there is no `=` in it.
        """
        left, sign, value = text.partition("=")
        if not sign or not left.strip("!"):
            msg = f"--filter must be field=value or field!=value; got {text!r}"
            raise ValueError(msg)
        return cls(tuple(left.removesuffix("!").split(".")), value, not left.endswith("!"))

    def accepts(self, plain: Plain) -> bool:
        """Whether an event passes; a field that is not there equals nothing."""
        held: Any = plain
        for step in self.path:
            held = held.get(step) if isinstance(held, dict) else None
        text = str(held).lower() if isinstance(held, bool | None) else str(held)
        return (text == self.value) is self.equal


def one_line(plain: Plain) -> str:
    """An event as `type key=value ...` without what is not set."""
    words = [str(plain.get("type", "?"))]
    for key, value in shorten(plain).items():
        if key != "type" and value not in (None, {}, []):
            text = msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value
            words.append(f"{key}={text}")
    return " ".join(words)
