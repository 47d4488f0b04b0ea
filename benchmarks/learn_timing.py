"""How the parts of `benchmarks.learn` take time: CPU seconds, contenders by turns, medians."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median


def by_turns(
    contenders: Mapping[str, Callable[[], object]], n: int, rounds: int, warm: int = 20
) -> dict[str, float]:
    """Return the median microseconds of CPU a call of each contender.

    In every round each one is called ``n`` times in a row, so that what else the machine does
    falls on all of them.
    """
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        for _ in range(warm):
            call()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in contenders.items():
                begun = time.process_time()
                for _ in range(n):
                    call()
                spent[name].append((time.process_time() - begun) / n * 1e6)
    finally:
        gc.enable()
    return {name: median(values) for name, values in spent.items()}


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
