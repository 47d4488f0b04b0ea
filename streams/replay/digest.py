"""A digest of rows that does not ask in which order they came."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

_BYTES = 16
_MODULUS = 1 << (8 * _BYTES)
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class RowSetDigest:
    """The sum, modulo 2^128, of each row's BLAKE2b-128; a row that is there twice counts twice.

    Partitions and archives can thus be read in any order, or side by side, and two readings of
    the same rows agree. It proves equality between honest copies; it is no signature.
    """

    def __init__(self) -> None:
        """Begin with no rows."""
        self.n_rows = 0
        self._sum = 0

    def add(self, row: msgspec.Struct | dict[str, Any]) -> None:
        """Take a row, which counts as its MessagePack bytes."""
        digest = hashlib.blake2b(_encode(row), digest_size=_BYTES).digest()
        self._sum = (self._sum + int.from_bytes(digest, "little")) % _MODULUS
        self.n_rows += 1

    def merge(self, hexdigest: str, n_rows: int) -> None:
        """Take the rows of another digest."""
        self._sum = (self._sum + int.from_bytes(bytes.fromhex(hexdigest), "little")) % _MODULUS
        self.n_rows += n_rows

    def hexdigest(self) -> str:
        """Return the digest of the rows so far."""
        return self._sum.to_bytes(_BYTES, "little").hex()
