"""`verify`: the whole proof over the topics and the archive of these settings."""

from contextlib import closing
from typing import Any

import msgspec

from agents.rewards.agent import MakeRewardsFold
from infra.progress import Progress
from infra.settings import Settings
from infra.stored import check_stored
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


def prove(settings: Settings, live: bool = False, processes: int | None = None) -> VerifyReport:
    """The report.

    `live` allows rows to be missing at the end, as they are while the system runs. Where the sink
    is in use, its database must hold every window's rows. Progress goes to stderr.
    """
    game = settings.load_game()
    parts: dict[int, VerifyProgress] = {}

    def tell(told: VerifyProgress) -> None:
        parts[told.partition] = told
        offsets.show(sum(p.done for p in parts.values()), sum(p.total for p in parts.values()))

    with closing(Progress("verifying", "offsets")) as offsets:
        report = verify(
            settings.kafka,
            settings.topics,
            MakeRewardsFold({game.name: game}, settings.topics),
            VerifySettings(
                archive_url=str(settings.windows_dir.resolve()),
                processes=processes,
                allow_behind=live,
            ),
            tell,
        )
    if settings.sink != "timescale":
        return report
    with closing(Progress("comparing the database", "windows")) as windows:
        compared, culprits = check_stored(
            settings.kafka, settings.topics, settings.timescale, live, processes, windows.show
        )
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
