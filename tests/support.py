"""What tests of every part use: waiting for a condition without sleeping blindly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

STEP_S = 0.02


def eventually(
    condition: Callable[[], T], deadline_s: float = 20.0, what: str = "the condition"
) -> T:
    """Polls until the condition is true and returns its value; fails the test at the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(_late(what, deadline_s, value))
        time.sleep(STEP_S)


async def eventually_async(
    condition: Callable[[], Awaitable[T]], deadline_s: float = 20.0, what: str = "the condition"
) -> T:
    """Polls an awaitable condition until it is true, as `eventually` does."""
    end = time.monotonic() + deadline_s
    while True:
        value = await condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(_late(what, deadline_s, value))
        await asyncio.sleep(STEP_S)


def _late(what: str, deadline_s: float, value: object) -> str:
    return f"{what} must hold within {deadline_s:g} s; the last value was {value!r}"
