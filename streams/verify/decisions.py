"""Which decisions are on the log, told without the fold that is to be proven."""

from __future__ import annotations

import hashlib
from array import array
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.limits import MAX_RECORD_BYTES


class _Decision(msgspec.Struct, tag_field="type", tag="decision.v2", gc=False):
    decision_id: str


class _Outcome(msgspec.Struct, tag_field="type", tag="outcome.v3", gc=False):
    pass


class _Snapshot(msgspec.Struct, tag_field="type", tag="snapshot.v2", gc=False):
    pass


class _EpisodeEnd(msgspec.Struct, tag_field="type", tag="episode_end.v1", gc=False):
    pass


class _Tick(msgspec.Struct, tag_field="type", tag="tick.v1", gc=False):
    pass


_DECISIONS = ("decision.v1", "decision.v2")
"""Records with events of older versions are taken apart one by one."""
_Any = _Decision | _Outcome | _Snapshot | _EpisodeEnd | _Tick
_pack = msgspec.msgpack.Decoder(list[_Any]).decode
_pack_raw = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_msgpack_any = msgspec.msgpack.Decoder().decode
_json_any = msgspec.json.Decoder().decode


def decision_ids(value: bytes | None) -> tuple[list[str], int]:
    """Return the ids of a record's decisions, and how many events it holds.

    A decision counts when its type and id can be read, whatever else is wrong with it.
    """
    if not value or len(value) > MAX_RECORD_BYTES:
        return [], 1
    if not (0x90 <= value[0] <= 0x9F or value[0] in (0xDC, 0xDD)):
        return _id_of(value, _json_any), 1
    try:
        events = _pack(value)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return _slowly(value)
    return [e.decision_id for e in events if type(e) is _Decision], len(events)


def id_in_letter(raw: bytes) -> list[str]:
    """Return the id of the decision that a dead letter holds; nothing when it holds none."""
    return _id_of(raw, _json_any if raw[:1] in (b"{", b" ", b"\n", b"\t") else _msgpack_any)


def _slowly(value: bytes) -> tuple[list[str], int]:
    try:
        parts = _pack_raw(value)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return [], 1
    ids: list[str] = []
    for part in parts:
        ids += _id_of(bytes(part), _msgpack_any)
    return ids, len(parts)


def _id_of(raw: bytes, decode: Any) -> list[str]:
    try:
        document = decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return []
    if not isinstance(document, dict) or document.get("type") not in _DECISIONS:
        return []
    found = document.get("decision_id")
    return [found] if isinstance(found, str) else []


class IdSet:
    """Distinct ids, 8 bytes each: two of a hundred million meet with a chance of 1 in 3,000."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, decision_id: str) -> None:
        """Take an id, maybe again."""
        digest = hashlib.blake2b(decision_id.encode("utf-8", "replace"), digest_size=8).digest()
        self._hashes.append(int.from_bytes(digest, "little"))

    @property
    def n_added(self) -> int:
        """How many were taken, repeats included."""
        return len(self._hashes)

    def distinct(self) -> npt.NDArray[np.uint64]:
        """Return the distinct hashes, sorted."""
        return np.unique(np.frombuffer(self._hashes, np.uint64))
