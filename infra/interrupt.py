"""SIGINT and SIGTERM as an exception at one place of an asyncio program."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Interrupted(Exception):
    """A signal asked the program to end."""


@asynccontextmanager
async def interruptible() -> AsyncIterator[None]:
    """The first SIGINT or SIGTERM cancels what runs inside; it comes out as `Interrupted`.

    Later ones are ignored: the clean-up that the first one started takes at most ten seconds.
    """
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    asked = False

    def ask() -> None:
        nonlocal asked
        if not asked and task is not None:
            asked = True
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, ask)
    try:
        yield
    except asyncio.CancelledError:
        if asked:
            raise Interrupted from None
        raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
