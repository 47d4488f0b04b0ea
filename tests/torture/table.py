"""The table of docs/torture.md, made from what the tortures found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.torture.ledger import Report

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "torture.json"
PAGE = ROOT / "docs" / "torture.md"
BEGIN, END = "<!-- torture: made by `make torture` -->", "<!-- /torture -->"

_FAULTS = {
    "kill rewards": "rewards worker killed (two of them)",
    "pause rewards": "rewards worker paused beyond its session",
    "block rewards": "rewards worker's event loop blocked beyond the rebalance time-out",
    "leave rewards": "rewards worker stopped cleanly and started again",
    "kill archiver": "archiver killed (two of them)",
    "pause archiver": "archiver paused beyond its session",
    "leave archiver": "archiver stopped cleanly and started again",
    "kill sink": "database sink killed",
    "pause sink": "database sink paused beyond its session",
    "kill game": "game process killed; says its last round again (two of them)",
    "pause game": "game process paused",
    "database": "database stopped at once, as by a crash",
}


def load() -> dict[str, Report]:
    """Return what was kept, by number of brokers."""
    if not RESULTS.exists():
        return {}
    return msgspec.json.decode(RESULTS.read_bytes(), type=dict[str, Report])


def keep(report: Report) -> None:
    """Keep a report and write the page's table anew."""
    reports = {**load(), str(report.brokers): report}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(dict(sorted(reports.items()))), indent=1)
    RESULTS.write_bytes(data + b"\n")
    page = PAGE.read_text("utf-8")
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    made = table([reports[name] for name in sorted(reports)])
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", "utf-8")


def table(reports: Sequence[Report]) -> str:
    """Return each report as lines of Markdown."""
    return "\n\n".join(_one(report) for report in reports)


def _one(report: Report) -> str:
    v = report.verdict
    name = "One broker" if report.brokers == 1 else "Three brokers, three copies, two in sync"
    said = (
        "nothing was found wrong" if report.clean else f"{len(v.problems)} things were found wrong"
    )
    lines = [
        f"### {name}",
        "",
        f"Seed {report.seed}: {v.decisions:,} decisions, {v.events:,} events and "
        f"{report.seconds:,.0f} s; {said}.",
        "",
        f"Each process: killed {report.least['kill']} times, paused {report.least['pause']} times.",
        "",
        "| fault | times | lost | doubled |",
        "|---|---:|---:|---:|",
        *(f"| {what} | {n:,} | {v.lost} | {v.doubled} |" for what, n in _rows(report)),
        "",
        f"- experiences: {v.experiences:,} in {v.windows:,} windows; revisions among them: "
        f"{v.revised:,}",
        f"- that differ from an undisturbed fold of the same log: {v.changed}",
        f"- steps back in the changelog: {v.steps_back}, in {v.changelog_records:,} records",
    ]
    if report.database:
        lines.append(f"- rows in the database, equal to the archive's: {v.database_rows:,}")
    return "\n".join(lines)


def _rows(report: Report) -> list[tuple[str, int]]:
    """Return what was done and how often."""
    v = report.verdict
    rows = [(_FAULTS[name], n) for name, n in report.faults.items() if name in _FAULTS]
    n_killed = sum(n for name, n in report.faults.items() if name.startswith("broker"))
    if report.brokers == 1:
        rows.append(("broker killed and started again", n_killed))
    else:
        rows += [
            ("broker killed, each of them in turn", n_killed),
            ("of these: led a partition of the input", report.leaders),
            ("of these: coordinated a partition's producer", report.coordinators),
            ("changelog records compacted away", v.changelog_records - v.changelog_kept),
        ]
    return [
        *rows,
        ("partition moved to the other rewards worker", report.moves),
        ("record sent again", v.again),
        ("partition held back until others had overtaken it", v.said.held),
        ("outcome late", v.said.late),
        ("bad event or record, now a dead letter", v.dead_letters),
    ]
