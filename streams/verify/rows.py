"""Rows that follow from the log beside rows that are on `experiences`: are they the same?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from schemas.records import Experience, Row
from streams.verify.report import PartitionReport

_raws = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_row = msgspec.msgpack.Decoder(Row).decode


class RowMatch:
    """Compares two sequences of rows that come a piece at a time; remembers no row it has matched.

    Origins rise in both, so a row that is missing on one side is told from one that differs.
    """

    def __init__(
        self, topic: str, report: PartitionReport, on_row: Callable[[int, Row], None]
    ) -> None:
        """Begin with no rows.

        Args:
            topic: the name of `experiences`, for messages.
            report: takes the counts and culprits.
            on_row: called with (offset, row) for each row that is right and there for the first
                time.
        """
        self._topic = topic
        self._report = report
        self._on_row = on_row
        self._wanted: deque[bytes] = deque()
        self._found: deque[tuple[int, bytes]] = deque()
        self.n_behind = 0
        """Decisions whose settlement is not written yet; `finish` counts them where allowed."""

    @property
    def n_wanted(self) -> int:
        """Rows that follow from the log and were not met yet."""
        return len(self._wanted)

    def want(self, value: bytes) -> None:
        """Take a record that the log implies."""
        self._wanted.extend(bytes(raw) for raw in _raws(value))

    def find(self, offset: int, value: bytes) -> None:
        """Take a record of the topic and compare as far as both sides go."""
        self._found.extend((offset, bytes(raw)) for raw in _raws(value))
        self.match()

    def match(self) -> None:
        """Compare as far as both sides go."""
        wanted, found = self._wanted, self._found
        while wanted and found:
            offset, raw = found[0]
            row = _row(raw)
            if raw == wanted[0]:
                wanted.popleft()
                found.popleft()
                self._accept(offset, row)
            else:
                self._differ(offset, row)

    def finish(self, end_offset: int, *, allow_behind: bool) -> None:
        """Judge what is left when both sides are read: `end_offset` ends the log's part."""
        report = self._report
        for offset, raw in self._found:
            row = _row(raw)
            if row.origin.offset < end_offset:
                self._unexpected(offset, row)
        self._found.clear()
        if allow_behind:
            report.behind = len(self._wanted)
            rows = map(_row, self._wanted)
            self.n_behind = sum(isinstance(r, Experience) and r.revision == 0 for r in rows)
        elif self._wanted:
            self._lose(_row(self._wanted[0]), len(self._wanted))
        self._wanted.clear()

    def _accept(self, offset: int, row: Row) -> None:
        report = self._report
        report.last_origin = row.origin
        if isinstance(row, Experience):
            report.experiences += 1
        else:
            report.watermarks += 1
        self._on_row(offset, row)

    def _differ(self, offset: int, row: Row) -> None:
        wanted = _row(self._wanted[0])
        if row.origin > wanted.origin:
            self._wanted.popleft()
            self._lose(wanted, 1)
            return
        self._found.popleft()
        if row.origin < wanted.origin:
            self._unexpected(offset, row)
            return
        self._wanted.popleft()
        if row != wanted:  # else another version of the encoder wrote it
            self._report.changed += 1
            self._blame("changed", offset, row, f"field {_first_difference(row, wanted)}")
        self._accept(offset, row)

    def _unexpected(self, offset: int, row: Row) -> None:
        last = self._report.last_origin
        if last is not None and row.origin <= last:
            self._report.doubled += 1
            self._blame("doubled", offset, row, f"its origin must be after {_place(last)}")
        else:
            self._report.extra += 1
            self._blame("extra", offset, row, "it does not follow from the log")

    def _lose(self, wanted: Row, n: int) -> None:
        self._report.lost += n
        what = f"{_name(wanted)} with origin {_place(wanted.origin)} must be there; it is missing"
        where = f"{self._topic} partition {self._report.partition}"
        self._report.blame("lost", where, what)

    def _blame(self, kind: str, offset: int, row: Row, what: str) -> None:
        where = f"{self._topic} partition {self._report.partition} offset {offset}"
        self._report.blame(kind, where, f"{_name(row)} at {_place(row.origin)}: {what}")


def _place(origin: object) -> str:
    parts = msgspec.structs.astuple(origin) if isinstance(origin, msgspec.Struct) else ()
    return ".".join(str(part) for part in parts[1:])


def _name(row: Row) -> str:
    return f"decision {row.decision_id}" if isinstance(row, Experience) else "the watermark"


def _first_difference(row: Row, wanted: Row) -> str:
    if type(row) is not type(wanted):
        return f"type must be {type(wanted).__name__}; got {type(row).__name__}"
    for name in wanted.__struct_fields__:
        found, want = getattr(row, name), getattr(wanted, name)
        if found != want:
            return f"{name} must be {_short(want)}; got {_short(found)}"
    return "none"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
