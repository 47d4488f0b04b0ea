"""Background tasks whose failure ends the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NoReturn

OnFatal = Callable[[str, BaseException | None], NoReturn]

log = logging.getLogger("grindstone.engine")


class Tasks:
    """Every task of one engine: none is forgotten, none fails in silence."""

    def __init__(self, app: str, on_fatal: OnFatal) -> None:
        self._app = app
        self.fatal = on_fatal
        self.stopping = False
        """True: a failure is only logged, the next owner aborts what it left open."""
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def within(self, work: Awaitable[Any], seconds: float) -> None:
        """Await `work` for so long; what it raises is logged."""
        try:
            async with asyncio.timeout(seconds):
                await work
        except Exception as error:
            log.warning("%s: %r while a part of it stopped", self._app, error)

    async def cancel_all(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        tasks = list(self._tasks)
        cancel(*tasks)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and self.stopping:
            log.warning("%s: %r at the stop; the next owner aborts it", self._app, error)
        elif error is not None:
            self.fatal(f"{self._app} cannot go on", error)


async def all_of(work: Iterable[Awaitable[Any]]) -> None:
    """Await all of it at once."""
    await asyncio.gather(*work)


def cancel(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel those that exist."""
    for task in tasks:
        if task is not None:
            task.cancel()
