"""Which of torch's operators a training's time goes into."""

from __future__ import annotations

from collections.abc import Callable

from torch import profiler


def operators(
    update: Callable[[], object], n: int, *, cuda: bool
) -> list[tuple[str, int, float, float]]:
    """Return name, calls, own milliseconds (both a call of ``update``) and share of all.

    The longest first, over ``n`` calls.
    """
    kinds = [profiler.ProfilerActivity.CPU]
    if cuda:
        kinds.append(profiler.ProfilerActivity.CUDA)
    with profiler.profile(activities=kinds) as found:
        for _ in range(n):
            update()
    told = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)
    whole = sum(e.self_cpu_time_total for e in told) or 1.0
    return [
        (e.key, e.count // n, e.self_cpu_time_total / n / 1e3, e.self_cpu_time_total / whole)
        for e in told
    ]
