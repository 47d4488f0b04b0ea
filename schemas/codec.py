"""Bytes to events and back: single JSON events, and packs (a MessagePack array of events).

The fast path decodes a whole record in one call. Only when that fails is the record taken apart,
so that one bad event in a pack costs that event and no other.
"""

from __future__ import annotations

import math
from typing import Any, cast, final

import msgspec
import numpy as np

from schemas.errors import SchemaError, from_msgspec, refuse, shown
from schemas.events import (
    Decision,
    Detail,
    EpisodeEnd,
    Event,
    Outcome,
    Snapshot,
    Tick,
    mask_bytes,
    vector_bytes,
)
from schemas.limits import MAX_PACK_EVENTS, MAX_RECORD_BYTES
from schemas.upcast import upcast

_FORCE = msgspec.structs.force_setattr
_json_event = msgspec.json.Decoder(Event)
_pack_events = msgspec.msgpack.Decoder(list[Event])
_pack_raw = msgspec.msgpack.Decoder(list[msgspec.Raw])
_pack_any = msgspec.msgpack.Decoder()
_json_any = msgspec.json.Decoder()
_json_encode = msgspec.json.Encoder().encode
_pack_encode = msgspec.msgpack.Encoder().encode
_REMEDY = "send it in parts"


@final
class BadEvent(msgspec.Struct, frozen=True, gc=False):
    """Bytes that are no event: the dead letter's content, before its position is known."""

    reason: str
    path: str
    index: int
    """Place in the pack; 0 for a single event."""
    raw: bytes


def encode_event(event: Event) -> bytes:
    """Return one event as a JSON record."""
    return _json_encode(event)


def encode_pack(events: list[Event]) -> bytes:
    """Return events of one partition as a MessagePack record.

    Raises:
        SchemaError: more events than a pack may hold.
    """
    if len(events) > MAX_PACK_EVENTS:
        refuse("$", f"at most {MAX_PACK_EVENTS} events", str(len(events)), _REMEDY)
    return _pack_encode(events)


def decode_record(value: bytes | None) -> list[Event | BadEvent]:
    """Return the events of a record in order; what is no event comes as `BadEvent`. Never raises.

    A record that begins like a MessagePack array is a pack, everything else a JSON event. Vectors
    and masks given as lists come back as bytes.
    """
    if not value:
        return [BadEvent("$ must be an event; got an empty record", "$", 0, b"")]
    if len(value) > MAX_RECORD_BYTES:
        size = f"$ must be at most {MAX_RECORD_BYTES} bytes; got {len(value)} ({_REMEDY})"
        return [BadEvent(size, "$", 0, value)]
    packed = _is_pack(value)
    try:
        events = _pack_events.decode(value) if packed else [_json_event.decode(value)]
        if not _all_plain(events):
            for event in events:
                check_event(event)
    except (msgspec.MsgspecError, SchemaError, RecursionError, ValueError):
        return _decode_slowly(value, packed)
    return cast("list[Event | BadEvent]", events)


def raw_event(value: bytes, index: int) -> bytes:
    """Return the bytes of one event of a record that decodes; a single event is the record."""
    return bytes(_pack_raw.decode(value)[index]) if _is_pack(value) else value


def _is_pack(value: bytes) -> bool:
    return 0x90 <= value[0] <= 0x9F or value[0] in (0xDC, 0xDD)


def _decode_slowly(value: bytes, packed: bool) -> list[Event | BadEvent]:
    if not packed:
        return [_decode_one(value, 0, packed)]
    try:
        parts = _pack_raw.decode(value)
    except (msgspec.MsgspecError, RecursionError) as error:
        return [BadEvent(f"$ must be a MessagePack array; got {error}", "$", 0, value)]
    return [_decode_one(bytes(part), i, packed) for i, part in enumerate(parts)]


def _decode_one(raw: bytes, index: int, packed: bool) -> Event | BadEvent:
    document: Any = None
    try:
        document = (_pack_any if packed else _json_any).decode(raw)
        if not isinstance(document, dict):
            refuse("$", "an object", shown(document))
        event = msgspec.convert(upcast(document), Event, builtin_types=(bytes,) if packed else None)
        check_event(event)
    except SchemaError as error:
        return BadEvent(str(error), error.path, index, raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        known = from_msgspec(error, document)
        return BadEvent(str(known), known.path, index, raw)
    return cast("Event", event)


def _all_plain(events: list[Event]) -> bool:
    """Whether all vectors and masks are bytes and all numbers finite: `check_event` finds nothing.

    The vectors of a record are looked at as one array and its numbers as one sum, which costs a
    tenth of a look at each. A sum of large numbers may overflow, so False only says: look closer.
    """
    decisions = [e for e in events if type(e) is Decision]
    outcomes = [e for e in events if type(e) is Outcome]
    vectors: list[Any] = [d.observation for d in decisions]
    vectors += [d.probabilities for d in decisions if d.probabilities is not None]
    vectors += [d.continuous for d in decisions if d.continuous is not None]
    vectors += [o.next_observation for o in outcomes if o.next_observation is not None]
    masks: list[Any] = [d.legal for d in decisions if d.legal is not None]
    masks += [o.next_legal for o in outcomes if o.next_legal is not None]
    numbers = [d.game_time for d in decisions if d.game_time is not None]
    facts = [e.facts for e in events if type(e) is not Tick and e.facts]
    facts += [o.next_facts for o in outcomes if o.next_facts]
    for named in facts:
        numbers += named.values()
    details_ = [d.details for d in decisions if d.details]
    details_ += [o.details for o in outcomes if o.details]
    for details in details_:
        numbers += [value for value in details.values() if isinstance(value, float)]
    return math.isfinite(sum(numbers)) and _are_plain(vectors, masks)


def _are_plain(vectors: list[Any], masks: list[Any]) -> bool:
    """Whether all are bytes, the vectors finite float32, the masks of 0 and 1."""
    if ({type(part) for part in vectors} | {type(part) for part in masks}) - {bytes}:
        return False
    if any([len(vector) & 3 for vector in vectors]):
        return False
    if b"".join(masks).translate(None, b"\0\1"):
        return False
    return bool(np.isfinite(np.frombuffer(b"".join(vectors), "<f4")).all())


def check_event(event: Event) -> None:
    """Check what types cannot say (finite numbers, masks) and bring lists into byte form.

    Raises:
        SchemaError: a number is NaN or infinite, a vector is no float32, a mask no 0 and 1.
    """
    if isinstance(event, Decision):
        _normalise(event, "observation")
        if event.probabilities is not None:
            _normalise(event, "probabilities")
        if event.continuous is not None:
            _normalise(event, "continuous")
        if event.legal is not None:
            _normalise_mask(event, "legal")
        if event.game_time is not None and not math.isfinite(event.game_time):
            refuse("$.game_time", "finite", repr(event.game_time))
        if event.details:
            _check_details(event.details)
    elif isinstance(event, Outcome):
        if event.next_observation is not None:
            _normalise(event, "next_observation")
        if event.next_legal is not None:
            _normalise_mask(event, "next_legal")
        if event.next_facts:
            _check_facts("next_facts", event.next_facts)
        if event.details:
            _check_details(event.details)
    if isinstance(event, Decision | Outcome | Snapshot | EpisodeEnd) and event.facts:
        _check_facts("facts", event.facts)


def _check_facts(field: str, facts: dict[str, float]) -> None:
    for name, number in facts.items():
        if not math.isfinite(number):
            refuse(f"$.{field}.{name}", "finite", repr(number))


def _check_details(details: dict[str, Detail]) -> None:
    for name, value in details.items():
        if isinstance(value, float) and not math.isfinite(value):
            refuse(f"$.details.{name}", "finite", repr(value))


def _normalise(event: Decision | Outcome, name: str) -> None:
    value = getattr(event, name)
    if not isinstance(value, bytes):
        value = vector_bytes(value)
        _FORCE(event, name, value)
    if len(value) % 4:
        refuse(f"$.{name}", "float32 values of 4 bytes", f"{len(value)} bytes")
    vector = np.frombuffer(value, "<f4")  # [D]
    finite = np.isfinite(vector)
    if not finite.all():
        where = int(np.flatnonzero(~finite)[0])
        refuse(f"$.{name}[{where}]", "finite", repr(float(vector[where])))


def _normalise_mask(event: Decision | Outcome, name: str) -> None:
    value = getattr(event, name)
    try:
        mask = mask_bytes(value)
    except ValueError:
        refuse(f"$.{name}", "a list of 0 and 1", shown(value))
    if mask.translate(None, b"\0\1"):
        refuse(f"$.{name}", "bytes of 0 and 1", shown(value))
    if mask is not value:
        _FORCE(event, name, mask)
