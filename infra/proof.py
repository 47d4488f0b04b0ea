"""`verify`: the whole proof over the topics and the archive of these settings."""

import multiprocessing
import os
import sys
from typing import Any

import msgspec

from agents.rewards.agent import MakeRewardsFold
from agents.rewards.fold import RewardsFold
from infra.settings import Settings
from infra.stored import check_stored
from infra.supervisor import PARENT_VARIABLE, die_with_parent
from streams.engine.records import Table
from streams.verify import VerifyProgress, VerifyReport, VerifySettings, verify

COUNTS = (
    "decisions",
    "settled",
    "open",
    "dead_decisions",
    "dead_letters",
    "experiences",
    "lost",
    "doubled",
    "changed",
    "extra",
    "behind",
    "windows",
    "window_rows",
    "unarchived",
    "files",
    "events",
)


class Refold(msgspec.Struct, frozen=True):
    """Makes the fold; in a process of a pool it first ties that process to its parent's life."""

    make: MakeRewardsFold

    def __call__(self, partition: int, table: Table) -> RewardsFold:
        """The fold of a partition on its table."""
        if multiprocessing.parent_process() is not None:
            die_with_parent({PARENT_VARIABLE: str(os.getppid())})
        return self.make(partition, table)


def prove(settings: Settings, live: bool = False, processes: int | None = None) -> VerifyReport:
    """The report; progress goes to stderr when that is a terminal.

    `live` allows rows to be missing at the end, as they are while the system runs. Where the sink
    is in use, its database must hold every window's rows.
    """
    game = settings.load_game()
    report = verify(
        settings.kafka,
        settings.topics,
        Refold(MakeRewardsFold({game.name: game}, settings.topics)),
        VerifySettings(
            archive_url=str(settings.windows_dir.resolve()),
            processes=processes,
            allow_behind=live,
        ),
        _Progress().show if sys.stderr.isatty() else None,
    )
    if settings.sink != "timescale":
        return report
    compared, culprits = check_stored(settings.kafka, settings.topics, settings.timescale, live)
    others = [*report.others, *culprits]
    return msgspec.structs.replace(report, database_windows=compared, others=others)


def plain(report: VerifyReport) -> dict[str, Any]:
    """The report for scripts."""
    return {
        "ok": report.ok,
        **{name: report.total(name) for name in COUNTS},
        "announcements": report.announcements,
        "database_windows": report.database_windows,
        "seconds": round(report.seconds, 2),
        "culprits": msgspec.to_builtins(report.culprits),
    }


def render(report: VerifyReport) -> str:
    """The report for people."""
    n = {name: report.total(name) for name in COUNTS}
    lines = [
        f"decisions {n['decisions']:,} = settled {n['settled']:,} + open {n['open']:,} "
        f"+ dead-lettered {n['dead_decisions']:,}",
        f"experiences {n['experiences']:,}: lost {n['lost']:,}, doubled {n['doubled']:,}, "
        f"changed {n['changed']:,}, not of the log {n['extra']:,}",
        f"windows {n['windows']:,} in {n['files']:,} files, {n['window_rows']:,} rows, "
        f"{n['unarchived']:,} rows not sealed yet",
    ]
    if report.database_windows is not None:
        lines.append(f"database: rows of {report.database_windows:,} windows compared")
    if n["behind"]:
        lines.append(f"not written yet: {n['behind']:,}")
    for culprit in report.culprits:
        lines.append(f"{culprit.kind} at {culprit.where}: {culprit.what}")
    lines.append(f"{'PROVEN' if report.ok else 'NOT PROVEN'} in {report.seconds:.1f} s")
    return "\n".join(lines)


class _Progress:
    """One line that is written over."""

    def __init__(self) -> None:
        self._parts: dict[int, VerifyProgress] = {}

    def show(self, progress: VerifyProgress) -> None:
        self._parts[progress.partition] = progress
        done = sum(p.done for p in self._parts.values())
        total = sum(p.total for p in self._parts.values())
        end = "\n" if done == total else ""
        sys.stderr.write(f"\rverifying {done:,} of {total:,} offsets{end}")
        sys.stderr.flush()
