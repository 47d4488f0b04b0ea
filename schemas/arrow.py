"""Experience as Arrow columns, and the digest of rows that no file format changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec
import pyarrow as pa
from blake3 import blake3

from schemas.events import Detail, Language
from schemas.records import Experience, Origin, Signal, encode_row

FACT_COLUMNS = ("facts", "outcome_facts", "next_facts")
DETAIL_COLUMNS = ("details", "outcome_details")

ALGORITHMS: dict[str, Callable[[], Any]] = {
    "blake3": blake3,
    "blake2b": lambda: blake2b(digest_size=16),
}
"""What digests are computed by; the first is what ours are. Digests that name none are BLAKE2b's,
from before there was a choice. BLAKE3 takes a third of its time on AVX2, and a quarter of what
SHA-256 takes on processors that have no instructions for it."""
_OURS = "blake3"


class RowsDigest:
    """A digest over rows in order; each row is its MessagePack bytes behind their length.

    It is told as ``blake3:`` and 128 bits, hex.
    """

    def __init__(self, algorithm: str = _OURS) -> None:
        """Begin with no rows.

        Raises:
            ValueError: the algorithm is not one of `ALGORITHMS`.
        """
        if algorithm not in ALGORITHMS:
            known = ", ".join(ALGORITHMS)
            msg = f"digest must be by one of {known}; got {algorithm}: of a newer Grindstone"
            raise ValueError(msg)
        self._name = "" if algorithm == "blake2b" else f"{algorithm}:"
        self._hash = ALGORITHMS[algorithm]()
        self.n_rows = 0

    def add(self, row: Experience) -> None:
        """Take the next row."""
        data = encode_row(row)
        self._hash.update(len(data).to_bytes(4, "little"))
        self._hash.update(data)
        self.n_rows += 1

    def add_packed(self, stream: memoryview, n: int) -> None:
        """Take the next n rows, encoded, each behind its length."""
        self._hash.update(stream)
        self.n_rows += n

    def hexdigest(self) -> str:
        """Return the digest of the rows so far, behind its algorithm's name."""
        return self._name + str(self._hash.digest()[:16].hex())


def rows_digest(rows: Iterable[Experience], like: str | None = None) -> str:
    """Return the digest of rows, by the algorithm of another digest where one is given.

    Raises:
        ValueError: that algorithm is not known.
    """
    digest = RowsDigest(_OURS if like is None else like.rpartition(":")[0] or "blake2b")
    for row in rows:
        digest.add(row)
    return digest.hexdigest()


_FACTS = pa.map_(pa.string(), pa.float64())
_SIGNALS = pa.list_(pa.struct([("name", pa.string()), ("time_ms", pa.int64()), ("facts", _FACTS)]))
_LANGUAGE = {f"language_{name}": name for name in Language.__struct_fields__}
LANGUAGE_USED = "language_used"


@lru_cache(maxsize=16)
def experience_schema(n_observation: int, n_actions: int) -> pa.Schema:
    """Return the columns of a window: ``n_observation`` floats, ``n_actions`` actions.

    Vectors are fixed-size binary (float32 little-endian, masks uint8): they load without parsing.
    """
    observation, mask = pa.binary(4 * n_observation), pa.binary(n_actions)
    return pa.schema(
        [
            pa.field("decision_id", pa.string(), nullable=False),
            pa.field("revision", pa.int32(), nullable=False),
            pa.field("origin_partition", pa.int32(), nullable=False),
            pa.field("origin_offset", pa.int64(), nullable=False),
            pa.field("origin_index", pa.int32(), nullable=False),
            pa.field("game", pa.string(), nullable=False),
            pa.field("world", pa.string(), nullable=False),
            pa.field("episode", pa.string(), nullable=False),
            pa.field("actor_id", pa.string(), nullable=False),
            pa.field("archetype", pa.string(), nullable=False),
            pa.field("domain", pa.string(), nullable=False),
            pa.field("opponent_id", pa.string()),
            pa.field("step", pa.int64(), nullable=False),
            pa.field("decision_time_ms", pa.int64(), nullable=False),
            pa.field("settled_time_ms", pa.int64(), nullable=False),
            pa.field("observation", observation, nullable=False),
            pa.field("legal", mask),
            pa.field("action", pa.int32(), nullable=False),
            pa.field("propensity", pa.float64(), nullable=False),
            pa.field("probabilities", pa.binary(4 * n_actions)),
            pa.field("policy_version", pa.string(), nullable=False),
            pa.field("explored", pa.bool_(), nullable=False),
            pa.field("next_observation", observation),
            pa.field("next_legal", mask),
            pa.field("terminated", pa.bool_(), nullable=False),
            pa.field("truncated", pa.bool_(), nullable=False),
            pa.field("success", pa.bool_()),
            pa.field("facts", _FACTS),
            pa.field("outcome_facts", _FACTS),
            pa.field("outcome_time_ms", pa.int64()),
            pa.field("signals", _SIGNALS),
            pa.field("outcome_details", pa.string()),
            pa.field("next_facts", _FACTS),
            pa.field("player_id", pa.string()),
            pa.field("related", pa.list_(pa.string())),
            pa.field("game_time", pa.float64()),
            pa.field("action_type", pa.string()),
            pa.field("details", pa.string()),
            pa.field("continuous", pa.binary()),
            pa.field("confidence", pa.float64()),
            pa.field("arm", pa.string()),
            pa.field(LANGUAGE_USED, pa.bool_(), nullable=False),
            *(pa.field(name, pa.string()) for name in _LANGUAGE),
            pa.field("standing_before", pa.float64()),
            pa.field("standing_after", pa.float64()),
            pa.field("credit", pa.float64()),
            pa.field("retaliation", pa.float64()),
            pa.field("immediate", pa.float64(), nullable=False),
            pa.field("long_term", pa.float64(), nullable=False),
            pa.field("total", pa.float64(), nullable=False),
            pa.field("reward_version", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
        ]
    )


_ORIGIN = {f"origin_{name}": name for name in ("partition", "offset", "index")}
_decode_details = msgspec.json.Decoder(dict[str, Detail]).decode


def table_to_rows(table: pa.Table) -> list[Experience]:
    """Return a table's rows as they were written, the same in every field."""
    given = {name: table.column(name).to_pylist() for name in table.column_names}
    for name in FACT_COLUMNS:
        given[name] = [None if v is None else dict(v) for v in given[name]]
    for name in DETAIL_COLUMNS:
        given[name] = [None if v is None else _decode_details(v) for v in given[name]]
    given["signals"] = [None if v is None else [_signal(s) for s in v] for v in given["signals"]]
    places = zip(*(given.pop(name) for name in _ORIGIN), strict=True)
    origins = [Origin(*place) for place in places]
    said = zip(*(given.pop(name) for name in _LANGUAGE), strict=True)
    used = given.pop(LANGUAGE_USED)
    language = [_language(*of) for of in zip(used, said, strict=True)]
    names = [*given, "origin", "language"]
    columns = zip(*given.values(), origins, language, strict=True)
    return [Experience(**dict(zip(names, values, strict=True))) for values in columns]


def _signal(value: dict[str, Any]) -> Signal:
    return Signal(value["name"], value["time_ms"], dict(value["facts"]))


def _language(used: bool, said: Sequence[str | None]) -> Language | None:
    return Language(**dict(zip(_LANGUAGE.values(), said, strict=True))) if used else None
