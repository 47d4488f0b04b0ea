"""What a verification found."""

from __future__ import annotations

import msgspec

from schemas.records import Origin


class Culprit(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing that is not as it must be."""

    kind: str
    """``lost``, ``doubled``, ``changed``, ``extra``, ``window``, ``file``, ``ledger``, ..."""
    where: str
    """Topic, partition and place, or the window's id."""
    what: str
    """What must be and what is."""


class PartitionReport(msgspec.Struct, kw_only=True):
    """What was found in one partition."""

    partition: int
    events: int = 0
    """Events on the log, ticks and unreadable ones included."""
    decisions: int = 0
    """Distinct decision ids that can be read on the log."""
    settled: int = 0
    """Distinct decision ids on `experiences`."""
    open: int = 0
    dead_decisions: int = 0
    """Decisions that were refused and nothing else."""
    dead_letters: int = 0
    experiences: int = 0
    watermarks: int = 0
    lost: int = 0
    """Rows that follow from the log and are not on `experiences`."""
    doubled: int = 0
    """Rows that are there again."""
    changed: int = 0
    """Rows that say something else than what follows from the log."""
    extra: int = 0
    """Rows that do not follow from the log."""
    behind: int = 0
    """Rows at the end that are not written yet; counted only where that is allowed."""
    windows: int = 0
    window_rows: int = 0
    unarchived: int = 0
    """Rows after the last sealed window."""
    files: int = 0
    file_bytes: int = 0
    last_origin: Origin | None = None
    culprits: list[Culprit] = []
    """The first of each kind, in the order of their finding."""

    def blame(self, kind: str, where: str, what: str) -> None:
        """Note a culprit, unless one of its kind is known already."""
        if all(c.kind != kind for c in self.culprits):
            self.culprits = [*self.culprits, Culprit(kind=kind, where=where, what=what)]


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in all partitions."""

    partitions: list[PartitionReport]
    announcements: int
    """Records on `replay-windows`; more than windows where an archiver was killed."""
    seconds: float
    others: list[Culprit] = []
    """Culprits of no one partition."""
    database_windows: int | None = None
    """Windows whose rows in the sink's database were compared; None: the sink is not in use."""

    def total(self, name: str) -> int:
        """Return the sum of a count over the partitions."""
        return sum(int(getattr(part, name)) for part in self.partitions)

    @property
    def culprits(self) -> list[Culprit]:
        """All culprits; empty when everything is proven."""
        found = [culprit for part in self.partitions for culprit in part.culprits]
        return [*found, *self.others]

    @property
    def ok(self) -> bool:
        """Whether everything is proven."""
        return not self.culprits

    @property
    def culprit(self) -> Culprit | None:
        """The first culprit; None when everything is proven."""
        return next(iter(self.culprits), None)


class VerifyProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition is."""

    partition: int
    done: int
    """Offsets of `game-events` folded again."""
    total: int
    experiences: int
