"""How far trainings are, with the time left: bars on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from infra.learn.job import Told

_LINE_EVERY_S = 10.0


class Bars:
    """Progress of trainings side by side, on stderr."""

    def __init__(self, unit: str = "updates", n: int = 1) -> None:
        """Take what is counted, and how many trainings there are."""
        self._unit, self._n = unit, n
        self._started = time.monotonic()
        self._phases: dict[str, str] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._told_at: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn(self._unit), TimeRemainingColumn(),
                console=Console(stderr=True),
            )  # fmt: skip
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def tell(self, told: Told) -> None:
        """Show how far one training is."""
        if told.phase != "training":
            self._tell_phase(told)
            return
        if self._progress is not None:
            if told.type not in self._tasks:
                self._tasks[told.type] = self._progress.add_task(told.type, total=told.total)
            self._progress.update(self._tasks[told.type], completed=told.done, total=told.total)
            return
        now = time.monotonic()
        began, first = self._began.setdefault(told.type, (now, told.done))
        if now - self._told_at.setdefault(told.type, now) < _LINE_EVERY_S:
            return
        self._told_at[told.type] = now
        left = (told.total - told.done) * (now - began) / max(told.done - first, 1)
        text = f"{told.type}: {told.done:,} of {told.total:,} {self._unit}, {clock(left)} left"
        print(text, file=sys.stderr, flush=True)

    def _tell_phase(self, told: Told) -> None:
        """Say once that a training is judged, or done."""
        if self._phases.get(told.type) == told.phase:
            return
        self._phases[told.type] = told.phase
        n_done = sum(phase == "done" for phase in self._phases.values())
        of = f" ({n_done} of {self._n} types)" if told.phase == "done" and self._n > 1 else ""
        passed = clock(time.monotonic() - self._started)
        self.say(f"{told.type}: {told.phase} after {told.done:,} {self._unit}, at {passed}{of}")

    def say(self, text: str) -> None:
        """Write a line above the bars."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Return seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
