"""What a process does with memory that it has let go."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT_BYTES = 128 << 20
_LARGEST_BYTES = 32 << 20
"""The most that glibc takes: larger blocks go back to the system in any case."""


def keep_freed_memory() -> bool:
    """Let the process keep up to 128 MB of freed memory; return whether it does (glibc only).

    Who makes buffers of some megabytes over and over would otherwise get each page from the system
    anew, which costs more than filling it (`docs/performance.md`).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    given = ((_TRIM_THRESHOLD, _KEPT_BYTES), (_MMAP_THRESHOLD, _LARGEST_BYTES))
    return all(mallopt(name, value) for name, value in given)
