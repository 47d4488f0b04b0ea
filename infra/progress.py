"""How far long work is, on stderr: a bar on a terminal, else a line every few seconds."""

import sys
import time

_BAR = 28
_LINE_EVERY_S = 5.0
_DRAW_EVERY_S = 0.1


class Progress:
    """One line about one piece of work; silent when it is over at once."""

    def __init__(self, doing: str, unit: str) -> None:
        self._doing = doing
        self._unit = unit
        self._live = sys.stderr.isatty()
        self._told_at = time.monotonic()
        self._drawn = False

    def show(self, done: int, total: int | None) -> None:
        """Says how far it is; `total` None where nobody knows how much there is."""
        now = time.monotonic()
        if now - self._told_at < (_DRAW_EVERY_S if self._live else _LINE_EVERY_S):
            return
        self._told_at = now
        if not self._live:
            of = "" if total is None else f" of {total:,}"
            sys.stderr.write(f"{self._doing}: {done:,}{of} {self._unit}\n")
        elif total:
            full = min(int(_BAR * done / total), _BAR)
            bar = "█" * full + "·" * (_BAR - full)
            self._draw(f"{self._doing} {bar} {done / total:4.0%} of {total:,} {self._unit}")
        else:
            self._draw(f"{self._doing} {done:,} {self._unit}")
        sys.stderr.flush()

    def close(self) -> None:
        """Leaves the line as it would be found."""
        if self._drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
            self._drawn = False

    def _draw(self, text: str) -> None:
        sys.stderr.write(f"\r\033[K{text}")
        self._drawn = True
