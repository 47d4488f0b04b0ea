"""Which of torch's operators a piece of work spends its time in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from torch import profiler

TOP = 12
"""Operators that are told, by their own time."""


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """One of torch's operators."""

    name: str
    calls: int
    own_ms: float
    share: float
    """Of the time of all operators."""


def dearest(work: Callable[[], Any], n: int, device: str) -> list[Operator]:
    """Return the dearest operators of `n` repeats of some work, by their own CPU time a repeat.

    On CUDA the kernels are traced besides, so that waiting for them is not taken for work.
    """
    kinds = [profiler.ProfilerActivity.CPU]
    if device == "cuda":
        kinds.append(profiler.ProfilerActivity.CUDA)
    with profiler.profile(activities=kinds) as found:
        for _ in range(n):
            work()
    told = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in told) or 1.0
    return [
        Operator(
            name=event.key,
            calls=event.count // n,
            own_ms=event.self_cpu_time_total / n / 1e3,
            share=event.self_cpu_time_total / whole,
        )
        for event in told[:TOP]
    ]
