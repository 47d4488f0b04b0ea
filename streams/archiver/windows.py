"""When replay windows are sealed: a function of a partition's rows and of nothing else.

A window holds consecutive rows of one partition, game and archetype. It is sealed by its
``max_rows``-th row, or by the first watermark at or past its first row's settlement plus
``max_span_ms``. Batches, restarts and the rows' places in the topic play no part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sized
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from schemas.records import Origin, Place, Retraction, Watermark, WindowRule


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
Held = TypeVar("Held", bound=Sized)
"""How the rows of a window are held."""

RuleOf = Callable[[R], WindowRule | None]
"""The rule of the window that begins with a row; None leaves the row out."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition is archived; what its state file holds."""

    partition: int
    place: Place
    """Where the first row of the oldest window that is still open stands."""
    sealed: dict[str, Origin] = {}
    """Last row of the last sealed window, by ``game/archetype``."""


class SealedWindow(msgspec.Struct, Generic[Held], frozen=True, kw_only=True):
    """The rows of a sealed window, in order."""

    partition: int
    game: str
    archetype: str
    rule: WindowRule
    first: Origin
    last: Origin
    """Of its rows."""
    rows: Held

    @property
    def window_id(self) -> str:
        """Names the window by its first row, so the same rows always get the same name."""
        return window_id(self.game, self.archetype, self.partition, self.first)


def window_id(game: str, archetype: str, partition: int, first: Origin) -> str:
    """Return the id of the window that begins with the row of that origin."""
    return f"{game}/{archetype}/p{partition}/{first.offset}.{first.index}"


class Open(msgspec.Struct, Generic[Held]):
    """A window that still grows."""

    game: str
    archetype: str
    rule: WindowRule
    place: Place
    seal_at_ms: int
    first: Origin
    last: Origin
    rows: Held


class Windows(ABC, Generic[Held]):
    """The windows of one partition, and how far its log is read.

    Rows whose origin does not rise are dropped and counted: logs that were copied, or readers that
    do not read committed, may show a row twice.
    """

    def __init__(self, partition: int, progress: Progress | None = None) -> None:
        """Begin at the start of the log, or where `progress` says."""
        self.partition = partition
        self.n_repeated = 0
        """Rows dropped because their origin did not rise."""
        self.n_rows = 0
        """Rows taken, those of windows that were sealed before a restart left out."""
        self._open: dict[str, Open[Held]] = {}
        self._sealed = dict(progress.sealed) if progress else {}
        self._next = progress.place if progress else Place()

    @property
    def n_open(self) -> int:
        """Rows in windows that are not sealed."""
        return sum(len(window.rows) for window in self._open.values())

    def finish(self) -> list[SealedWindow[Held]]:
        """Seal what is open, for a log that has come to its end."""
        return self._seal_all(list(self._open.values()))

    def progress(self) -> Progress:
        """Return what a later fold needs to go on; sealed windows must be stored by then."""
        places = [window.place for window in self._open.values()]
        oldest = min(places, key=lambda place: place.next_offset, default=self._next)
        return Progress(partition=self.partition, place=oldest, sealed=dict(self._sealed))

    @abstractmethod
    def _empty(self, max_rows: int) -> Held:
        """Return what holds no rows yet, and will hold so many at most."""

    def _begin(self, first: Settled, rule: WindowRule, place: Place) -> Open[Held]:
        """Open the window of a row, which it does not hold yet."""
        window = Open[Held](
            first.game,
            first.archetype,
            rule,
            place,
            first.settled_time_ms + rule.max_span_ms,
            first.origin,
            first.origin,
            self._empty(rule.max_rows),
        )
        self._open[f"{first.game}/{first.archetype}"] = window
        return window

    def _on_watermark(self, watermark_ms: int, sealed: list[SealedWindow[Held]]) -> None:
        due = [window for window in self._open.values() if window.seal_at_ms <= watermark_ms]
        sealed += self._seal_all(due)

    def _seal_all(self, windows: list[Open[Held]]) -> list[SealedWindow[Held]]:
        """Seal windows in the order of their first rows, however they came to be opened."""
        windows.sort(key=lambda window: window.first)
        return [self._seal(f"{window.game}/{window.archetype}") for window in windows]

    def _seal(self, key: str) -> SealedWindow[Held]:
        window = self._open.pop(key)
        self._sealed[key] = window.last
        return SealedWindow(
            partition=self.partition,
            game=window.game,
            archetype=window.archetype,
            rule=window.rule,
            first=window.first,
            last=window.last,
            rows=window.rows,
        )


class WindowFold(Windows[list[R]]):
    """Cuts the rows of one partition into windows, object by object."""

    def __init__(
        self, partition: int, rule_of: RuleOf[R], progress: Progress | None = None
    ) -> None:
        """Begin at the start of the log, or where `progress` says."""
        super().__init__(partition, progress)
        self._rule_of = rule_of

    def _empty(self, max_rows: int) -> list[R]:
        return []

    def take(
        self, offset: int, rows: Iterable[R | Retraction | Watermark]
    ) -> list[SealedWindow[list[R]]]:
        """Take the rows of the record at `offset` and return the windows that they seal."""
        here = Place(offset, self._next.last_origin)
        last = here.last_origin
        sealed: list[SealedWindow[list[R]]] = []
        window: Open[list[R]] | None = None
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
            elif window is not None and _belongs(row, window):  # as rows do that come in a row
                self.n_rows += 1
                window.last = origin
                window.rows.append(row)
            else:
                window = self._on_row(row, here, sealed)
        self._next = Place(offset + 1, last)
        return sealed

    def _on_row(
        self, row: R, here: Place, sealed: list[SealedWindow[list[R]]]
    ) -> Open[list[R]] | None:
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
            window = self._begin(row, rule, here)
        window.last = row.origin
        window.rows.append(row)
        if len(window.rows) >= window.rule.max_rows:
            sealed.append(self._seal(key))
            return None
        return window


def _belongs(row: Settled, window: Open[Any]) -> bool:
    """Whether a row belongs in a window and does not fill it."""
    return (
        row.archetype == window.archetype
        and row.game == window.game
        and len(window.rows) + 1 < window.rule.max_rows
    )
