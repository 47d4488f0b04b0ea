"""Announced windows beside the windows that follow from the rows."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.arrow import rows_digest
from schemas.records import Experience, Origin, Row, Window, WindowRule
from streams.archive import check_file
from streams.archiver.store import ArchiveError, ArchiveStore
from streams.archiver.windows import Progress, SealedWindow, WindowFold, window_id
from streams.verify.report import PartitionReport


class WindowCheck:
    """Cuts a partition's rows again, by the rules that were announced, and compares.

    Rows that no announced window holds are let go, so memory stays at the windows that are open.
    """

    def __init__(
        self,
        report: PartitionReport,
        announced: Iterable[Window],
        progress: Progress | None,
    ) -> None:
        """Begin before the first row.

        Args:
            report: takes the counts and culprits.
            announced: the partition's announcements, repeats included.
            progress: how far the archiver says it is.
        """
        self._report = report
        self._windows: dict[str, Window] = {}
        self._sealed = progress.sealed if progress else {}
        self._fold = WindowFold(report.partition, self._rule_of)
        for window in announced:
            known = self._windows.setdefault(window.window_id, window)
            if known.digest != window.digest or known.n_rows != window.n_rows:
                report.blame(
                    "window",
                    window.window_id,
                    f"must be announced with one digest; got {known.digest} and {window.digest}",
                )
            # The last announcement has the right file, should a library have changed its bytes.
            self._windows[window.window_id] = window
        self._left = set(self._windows)

    def take(self, offset: int, row: Row) -> None:
        """Take the next row, which stands at that offset of `experiences`."""
        for sealed in self._fold.take(offset, (row,)):
            self._compare(sealed)

    def finish(self, store: ArchiveStore | None, *, allow_behind: bool = False) -> None:
        """Judge what is left when all rows are taken, and check the files in `store`."""
        report = self._report
        last = report.last_origin
        for name in sorted(self._left):
            window = self._windows[name]
            if allow_behind and last is not None and window.last_origin > last:
                continue  # of rows that were written while this was reading
            report.blame("window", name, "must follow from the log; no such window does")
        if store is not None:
            for window in self._windows.values():
                self._check_files(store, window)

    def _rule_of(self, first: Experience) -> WindowRule | None:
        name = window_id(first.game, first.archetype, self._report.partition, first.origin)
        window = self._windows.get(name)
        if window is not None:
            return window.rule
        done: Origin | None = self._sealed.get(f"{first.game}/{first.archetype}")
        if done is not None and first.origin <= done:
            self._report.blame("window", name, "must be announced: the archiver is further already")
        self._report.unarchived += 1
        return None

    def _compare(self, sealed: SealedWindow[list[Experience]]) -> None:
        name = sealed.window_id
        window = self._windows[name]
        self._left.discard(name)
        self._report.windows += 1
        self._report.window_rows += len(sealed.rows)
        if window.n_rows != len(sealed.rows) or window.last_origin != sealed.last:
            what = f"must have {len(sealed.rows)} rows by its rule; it was announced with "
            self._report.blame("window", name, what + str(window.n_rows))
            return
        try:
            digest = rows_digest(sealed.rows, like=window.digest)
        except ValueError as error:
            self._report.blame("window", name, str(error))
            return
        if digest != window.digest:
            what = f"must have digest {digest}; it was announced with {window.digest}"
            self._report.blame("window", name, what)

    def _check_files(self, store: ArchiveStore, window: Window) -> None:
        for file in window.files:
            try:
                data = check_file(store, window, file.path)
            except ArchiveError as error:
                self._report.blame("file", window.window_id, str(error))
                continue
            self._report.files += 1
            self._report.file_bytes += len(data)
