"""Windows cut from many rows at once, without an object for each: what the archiver does."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.compiled import Ints
from schemas.heads import Heads
from schemas.packed import PackedRows
from schemas.records import Origin, Place, RowHead, Watermark, WindowRule
from streams.archiver.windows import Progress, SealedWindow, Windows

Sealed = SealedWindow[PackedRows]


class HeadsFold(Windows[PackedRows]):
    """Cuts rows as `WindowFold` does, into the same windows, and packs them."""

    def __init__(
        self,
        partition: int,
        rule_of: Callable[[RowHead], WindowRule],
        progress: Progress | None = None,
    ) -> None:
        """Begin at the start of the log, or where `progress` says."""
        super().__init__(partition, progress)
        self._rule_of = rule_of

    def _empty(self, max_rows: int) -> PackedRows:
        return PackedRows(max_rows)

    def take(self, offsets: Sequence[int], heads: Heads) -> list[Sealed]:
        """Take the rows of the records at `offsets` and return the windows that they seal."""
        batch = _Batch(offsets, heads, self._next.last_origin)
        self.n_repeated += len(heads) - int(batch.fresh.sum())
        sealed: list[Sealed] = []
        for rows, mark in batch.between_watermarks():
            if len(rows):
                self._on_rows(batch, rows, sealed)
            if mark is not None:
                self._on_watermark(mark.watermark_ms, sealed)
        if offsets:
            self._next = Place(offsets[-1] + 1, batch.last_before(len(heads)))
        return sealed

    def _on_rows(self, batch: _Batch, rows: Ints, sealed: list[Sealed]) -> None:
        """Put rows into their windows; return those that are full in the order they fill."""
        if len(batch.heads.keys) == 1:
            sealed += self._on_key(batch, rows)
            return
        keys = batch.heads.key[rows]
        full: list[Sealed] = []
        for key in np.flatnonzero(np.bincount(keys)).tolist():
            full += self._on_key(batch, rows[keys == key])
        full.sort(key=lambda window: window.last)
        sealed += full

    def _on_key(self, batch: _Batch, rows: Ints) -> Iterator[Sealed]:
        """Put rows of one game and archetype into windows; yield those that they fill."""
        heads = batch.heads
        first = heads.head(int(rows[0]))
        key = f"{first.game}/{first.archetype}"
        done = self._sealed.get(key)
        if done is not None and first.origin <= done:  # read again after a restart
            rows = rows[bisect_right(rows, done, key=heads.origin) :]
        self.n_rows += len(rows)
        while len(rows):
            window = self._open.get(key)
            if window is None:
                first = heads.head(int(rows[0]))
                window = self._begin(first, self._rule_of(first), batch.place(int(rows[0])))
            room = window.rule.max_rows - len(window.rows)
            some, rows = rows[:room], rows[room:]
            window.rows.add(heads.data, heads.starts, heads.sizes, some)
            window.last = heads.origin(int(some[-1]))
            if len(some) == room:
                yield self._seal(key)


class _Batch:
    """Rows of some records, and which of them are new."""

    def __init__(self, offsets: Sequence[int], heads: Heads, last: Origin | None) -> None:
        self.heads = heads
        self.fresh = _rising(heads, last)
        """[N]: whether a row's origin is beyond all before it."""
        self._offsets = offsets
        self._last = last

    def between_watermarks(self) -> Iterator[tuple[Ints, Watermark | None]]:
        """Yield the experiences up to each watermark, and it; at last those behind them all."""
        heads = self.heads
        rows = np.flatnonzero(self.fresh & (heads.key >= 0))
        for place, other in sorted(heads.others.items()):
            if isinstance(other, Watermark) and self.fresh[place]:
                n = int(np.searchsorted(rows, place))
                yield rows[:n], other
                rows = rows[n:]
        yield rows, None

    def place(self, row: int) -> Place:
        """Return the place to read on from to meet a row."""
        record = int(np.searchsorted(self.heads.ends, row, "right"))
        begin = int(self.heads.ends[record - 1]) if record else 0
        return Place(self._offsets[record], self.last_before(begin))

    def last_before(self, row: int) -> Origin | None:
        """Return the origin of the last new row before a row."""
        before = np.flatnonzero(self.fresh[:row])
        return self.heads.origin(int(before[-1])) if len(before) else self._last


def _rising(heads: Heads, last: Origin | None) -> NDArray[np.bool_]:
    """Return which rows have an origin beyond all those before."""
    n = len(heads)
    partition, offset, index = heads.origins[:, 1:] - heads.origins[:, :-1]
    rises = (partition > 0) | ((partition == 0) & ((offset > 0) | ((offset == 0) & (index > 0))))
    if rises.all() and (last is None or not n or heads.origin(0) > last):
        return np.ones(n, np.bool_)
    fresh = np.zeros(n, np.bool_)
    for i in range(n):
        origin = heads.origin(i)
        if last is None or origin > last:
            last, fresh[i] = origin, True
    return fresh
