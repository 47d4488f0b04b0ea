"""Where the seeds of matches come from: each purpose has numbers of its own."""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Purpose = Literal["gate", "confirm", "final", "live"]

_PURPOSES: Final[tuple[Purpose, ...]] = ("gate", "confirm", "final", "live")
_SPAN: Final = 2**29
"""Seeds of a purpose; the engine takes 31 bits, so four purposes fit side by side."""


def match_seeds(purpose: Purpose, model: str, version: str, n: int) -> list[int]:
    """Returns n distinct seeds, the first ones the same for every n.

    No seed of one purpose is ever a seed of another, so the matches of a final verdict were
    played by no gate.
    """
    base = _PURPOSES.index(purpose) * _SPAN
    seeds: dict[int, None] = {}
    index = 0
    while len(seeds) < n:
        seeds[base + _draw(purpose, model, version, index) % _SPAN] = None
        index += 1
    return list(seeds)


def match_seed(purpose: Purpose, *names: object) -> int:
    """Returns the seed that belongs to the names, within the purpose's numbers."""
    return _PURPOSES.index(purpose) * _SPAN + _draw(purpose, *names) % _SPAN


def share(*names: object) -> float:
    """Returns the number in [0, 1) that belongs to the names."""
    return (_draw(*names) >> 11) * 2.0**-53


def stream_keys(seed: int, n: int) -> NDArray[np.uint64]:
    """u64[n]: the random streams of n agents in a match with this seed."""
    digest = hashlib.blake2b(f"streams/{seed}".encode(), digest_size=8).digest()
    spread = np.arange(n, dtype=np.uint64) << np.uint64(32)
    return np.uint64(int.from_bytes(digest, "little")) ^ spread


def _draw(*parts: object) -> int:
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
