"""When replay windows are sealed: a function of a partition's rows and of nothing else.

A window holds consecutive rows of one partition, game and archetype. It is sealed by its
``max_rows``-th row, or by the first watermark at or past its first row's settlement plus
``max_span_ms``. Batches, restarts and the rows' places in the topic play no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

import msgspec

from schemas.records import Origin, Retraction, Watermark, WindowRule


class Settled(Protocol):
    """What windows are cut by: an `Experience`, or the head of one."""

    @property
    def origin(self) -> Origin:
        """Where it came from."""

    @property
    def game(self) -> str:
        """Which game."""

    @property
    def archetype(self) -> str:
        """Of which archetype."""

    @property
    def settled_time_ms(self) -> int:
        """The watermark that settled it."""


R = TypeVar("R", bound=Settled)

RuleOf = Callable[[R], WindowRule | None]
"""The rule of the window that begins with a row; None leaves the row out."""


class Place(msgspec.Struct, frozen=True):
    """A place to read on from: an offset of `experiences` and the last row before it."""

    next_offset: int
    last_origin: Origin | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition is archived; what its state file holds."""

    partition: int
    place: Place
    """Where the first row of the oldest window that is still open stands."""
    sealed: dict[str, Origin] = {}
    """Last row of the last sealed window, by ``game/archetype``."""


class SealedWindow(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """The rows of a sealed window, in order."""

    partition: int
    game: str
    archetype: str
    rule: WindowRule
    rows: list[R]

    @property
    def window_id(self) -> str:
        """Names the window by its first row, so the same rows always get the same name."""
        first = self.rows[0].origin
        return window_id(self.game, self.archetype, self.partition, first)


def window_id(game: str, archetype: str, partition: int, first: Origin) -> str:
    """Return the id of the window that begins with the row of that origin."""
    return f"{game}/{archetype}/p{partition}/{first.offset}.{first.index}"


class _Open(msgspec.Struct, Generic[R]):
    """A window that still grows."""

    game: str
    archetype: str
    rule: WindowRule
    place: Place
    seal_at_ms: int
    rows: list[R]

    def takes(self, row: R) -> bool:
        """Whether a row belongs here and does not fill the window."""
        return (
            row.archetype == self.archetype
            and row.game == self.game
            and len(self.rows) + 1 < self.rule.max_rows
        )


class WindowFold(Generic[R]):
    """Cuts the rows of one partition into windows.

    Rows whose origin does not rise are dropped and counted: logs that were copied, or readers that
    do not read committed, may show a row twice.
    """

    def __init__(
        self, partition: int, rule_of: RuleOf[R], progress: Progress | None = None
    ) -> None:
        """Begin at the start of the log, or where `progress` says."""
        self.partition = partition
        self.n_repeated = 0
        """Rows dropped because their origin did not rise."""
        self.n_rows = 0
        """Rows taken, those of windows that were sealed before a restart left out."""
        self._rule_of = rule_of
        self._open: dict[str, _Open[R]] = {}
        self._sealed = dict(progress.sealed) if progress else {}
        self._next = progress.place if progress else Place(0)

    @property
    def n_open(self) -> int:
        """Rows in windows that are not sealed."""
        return sum(len(window.rows) for window in self._open.values())

    def take(
        self, offset: int, rows: Iterable[R | Retraction | Watermark]
    ) -> list[SealedWindow[R]]:
        """Take the rows of the record at `offset` and return the windows that they seal."""
        here = Place(offset, self._next.last_origin)
        last = here.last_origin
        sealed: list[SealedWindow[R]] = []
        window: _Open[R] | None = None
        for row in rows:
            origin = row.origin
            if last is not None and origin <= last:
                self.n_repeated += 1
                continue
            last = origin
            if isinstance(row, Watermark):
                self._on_watermark(row.watermark_ms, sealed)
                window = None
            elif isinstance(row, Retraction):
                pass  # implied by the revision after it
            elif window is not None and window.takes(row):  # as rows do that come in a row
                self.n_rows += 1
                window.rows.append(row)
            else:
                window = self._on_row(row, here, sealed)
        self._next = Place(offset + 1, last)
        return sealed

    def finish(self) -> list[SealedWindow[R]]:
        """Seal what is open, for a log that has come to its end."""
        return [self._seal(key) for key in list(self._open)]

    def progress(self) -> Progress:
        """Return what a later fold needs to go on; sealed windows must be stored by then."""
        places = [window.place for window in self._open.values()]
        oldest = min(places, key=lambda place: place.next_offset, default=self._next)
        return Progress(partition=self.partition, place=oldest, sealed=dict(self._sealed))

    def _on_row(self, row: R, here: Place, sealed: list[SealedWindow[R]]) -> _Open[R] | None:
        """Return the window that the row is in, None where it is in none that is open."""
        key = f"{row.game}/{row.archetype}"
        done = self._sealed.get(key)
        if done is not None and row.origin <= done:
            return None  # read again after a restart; its window is stored
        self.n_rows += 1
        window = self._open.get(key)
        if window is None:
            rule = self._rule_of(row)
            if rule is None:
                return None
            seal_at_ms = row.settled_time_ms + rule.max_span_ms
            window = _Open(row.game, row.archetype, rule, here, seal_at_ms, [])
            self._open[key] = window
        window.rows.append(row)
        if len(window.rows) >= window.rule.max_rows:
            sealed.append(self._seal(key))
            return None
        return window

    def _on_watermark(self, watermark_ms: int, sealed: list[SealedWindow[R]]) -> None:
        due = [key for key, window in self._open.items() if window.seal_at_ms <= watermark_ms]
        sealed.extend(self._seal(key) for key in due)

    def _seal(self, key: str) -> SealedWindow[R]:
        window = self._open.pop(key)
        self._sealed[key] = window.rows[-1].origin
        return SealedWindow(
            partition=self.partition,
            game=window.game,
            archetype=window.archetype,
            rule=window.rule,
            rows=window.rows,
        )
