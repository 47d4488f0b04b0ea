"""How a process handles its memory."""

from __future__ import annotations

import ctypes
import gc

GC_THRESHOLD = (50_000, 20, 50)
"""A batch makes thousands of objects that die with it; Python would look for cycles among them at
each 700."""
KEPT_BYTES = 64 << 20
"""What is freed is given back to the system beyond this. A window is some megabytes, and memory
that is asked for anew with each is handed out page by page: 2,500 pages for five of them, a tenth
of the archiver's work."""
_HEAP_BYTES = 32 << 20
"""Up to here memory comes from the heap, which can keep it; glibc allows no more."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def tune(*, keep: bool = False) -> None:
    """Set up the garbage collector and, for processes that work on windows, the heap.

    Both of glibc's thresholds are set, since setting one of them stops it from adapting the other.
    A C library that has no such thresholds is left as it is.
    """
    gc.set_threshold(*GC_THRESHOLD)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if keep and mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _HEAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
