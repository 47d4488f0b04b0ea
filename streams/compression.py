"""lz4 as fast as it is meant to be."""

from __future__ import annotations

from aiokafka import codec

FAST_LZ4_LEVEL = 1
"""aiokafka compresses with level 9, lz4's slow search: 20 ms for a pack of 480 KB of sparse
observations, to 86 KB. Level 1 takes 0.9 ms, to 102 KB."""


def use_fast_lz4() -> None:
    """Make every aiokafka producer of this process compress with the fast level."""
    codec.lz4_encode.__defaults__ = (FAST_LZ4_LEVEL,)
