"""Where a run is shown: a live page on a terminal, a line every five seconds elsewhere."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.live import Live

from infra.demo.facts import Facts
from infra.demo.page import line, page

LINE_S = 5.0


class Screen:
    """Draws `facts` whenever `show` is called."""

    def __init__(self, facts: Facts, seconds_planned: float, to_stderr: bool) -> None:
        self._facts = facts
        self._planned = seconds_planned
        self._console = Console(file=sys.stderr if to_stderr else sys.stdout)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=False)
            if self._console.is_terminal
            else None
        )
        self._last = float("-inf")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, force: bool = False) -> None:
        """Draws the page anew, or prints a line when one is due."""
        if self._live is not None:
            self._live.update(page(self._facts, self._planned), refresh=True)
        elif force or time.monotonic() - self._last >= LINE_S:
            self._last = time.monotonic()
            print(line(self._facts), file=self._console.file, flush=True)
