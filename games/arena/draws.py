"""Random numbers by counter, so that a match draws the same whatever is played beside it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Floats = NDArray[np.float32]

_A: Final = np.uint64(0xBF58476D1CE4E5B9)
_B: Final = np.uint64(0x94D049BB133111EB)
GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_LOW: Final = np.uint64(0xFFFF)


def mixed(x: Keys) -> Keys:
    """Return the numbers scrambled: SplitMix64's finaliser (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * _A
    x = (x ^ (x >> np.uint64(27))) * _B
    return x ^ (x >> np.uint64(31))


def keys_of(seed: int, *shape: int) -> Keys:
    """u64[shape]: a key for each place, a function of the seed and the place."""
    places = np.arange(int(np.prod(shape)), dtype=np.uint64).reshape(shape)
    return mixed(mixed(places * GOLDEN + np.uint64(1)) ^ np.uint64(seed % 2**64))


def uniforms(keys: Keys, k: int) -> Floats:
    """f32[k, ...] in [0, 1): k numbers for each key, of 16 bits each."""
    parts = []
    for lo in range(0, k, 4):
        bits = mixed(keys + np.uint64((lo + 1) * int(GOLDEN) % 2**64))
        parts += [(bits >> np.uint64(16 * part)) & _LOW for part in range(min(4, k - lo))]
    numbers: Floats = np.stack(parts).astype(np.float32) * np.float32(2.0**-16)
    return numbers
