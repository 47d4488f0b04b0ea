"""Runs the demo over seeds, asserts what it promises and writes the table in docs/performance.md.

    python -m benchmarks.demo_seeds --seeds 10              # about five minutes a seed
    python -m benchmarks.demo_seeds --seeds 1 --first 3 --chaos

Results of finished seeds are kept in benchmarks/results/demo.json, so that a run that was cut goes
on where it stopped; `--again` forgets them. Exit code 0 when the promises hold, 1 when not.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- seeds: made by benchmarks/demo_seeds.py -->", "<!-- /seeds -->"
LIMIT_S = 600.0

PROMISES: list[tuple[str, str, float]] = [
    ("first_decision_s", "at most", 20.0),
    ("decisions_per_s", "at least", 2_000.0),
    ("experience_p95_ms", "at most", 1_000.0),
    ("swap_max_ms", "at most", 2_000.0),
    ("memory_peak_mb", "at most", 4_000.0),
    ("seconds", "at most", 300.0),
]
"""What every run is held to besides its verdict; judged on the median of the seeds."""

COLUMNS: list[tuple[str, str, str]] = [
    ("seed", "seed", "{}"),
    ("passed", "passed", "{}"),
    ("learned_win_rate", "learned", "{:.1%}"),
    ("learned_lower95", "lower 95 %", "{:.3f}"),
    ("first_policy_win_rate", "first", "{:.1%}"),
    ("scripted_win_rate", "scripted", "{:.1%}"),
    ("random_win_rate", "random", "{:.1%}"),
    ("versions", "versions", "{}"),
    ("decisions", "decisions", "{:,}"),
    ("decisions_per_s", "a second", "{:,.0f}"),
    ("first_decision_s", "first decision s", "{:.1f}"),
    ("experience_p95_ms", "experience p95 ms", "{:,.0f}"),
    ("swap_max_ms", "swap max ms", "{:,.0f}"),
    ("memory_peak_mb", "memory MB", "{:,.0f}"),
    ("lost", "lost", "{}"),
    ("doubled", "doubled", "{}"),
    ("seconds", "seconds", "{:.0f}"),
]


def run_demo(seed: int, chaos: bool) -> dict[str, Any]:
    """Return the JSON object that a demo prints last; what it says meanwhile goes to stderr."""
    command = [str(ROOT / ".venv/bin/grindstone"), "demo", "--seed", str(seed), "--json"]
    done = subprocess.run(
        command + ["--chaos"] * chaos,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    report: dict[str, Any] = json.loads(lines[-1]) if lines else {"seed": seed, "passed": False}
    return report


def holds(name: str, rule: str, bound: float, value: float | None) -> bool:
    """Return whether a figure keeps its promise; one that is missing does not."""
    if value is None:
        return False
    return value <= bound if rule == "at most" else value >= bound


def middle(reports: list[dict[str, Any]], name: str) -> float | None:
    """Return the median of a figure over the runs that have it."""
    values = [r[name] for r in reports if r.get(name) is not None]
    return median(values) if values else None


def table(reports: list[dict[str, Any]]) -> list[str]:
    """Return the runs as Markdown."""

    def cell(report: dict[str, Any], name: str, form: str) -> str:
        value = report.get(name)
        if isinstance(value, bool):
            return "yes" if value else "no"
        return "-" if value is None else form.format(value)

    lines = [
        "| " + " | ".join(title for _, title, _ in COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
    ]
    lines += [
        "| " + " | ".join(cell(report, name, form) for name, _, form in COLUMNS) + " |"
        for report in reports
    ]
    return lines


def verdicts(reports: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """Return what was promised and what came, a line each, and whether all of it holds."""
    passed = sum(bool(r["passed"]) for r in reports)
    good = passed >= 0.9 * len(reports)
    lines = [f"- passed: {passed} of {len(reports)} seeds, at least 9 of 10 promised"]
    for name, rule, bound in PROMISES:
        value = middle(reports, name)
        kept = holds(name, rule, bound, value)
        good = good and kept
        shown = "none" if value is None else f"{value:,.1f}"
        word = "kept" if kept else "NOT KEPT"
        lines.append(f"- {name}: median {shown}, {rule} {bound:,.0f} promised: {word}")
    lower = middle(reports, "learned_lower95")
    lines.append(f"- learned_lower95: median {lower or 0:.3f}, aim 0.85")
    return lines, good


def write_page(lines: list[str]) -> None:
    """Put the lines between the page's markers."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Run the seeds that have no result yet, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--chaos", action="store_true")
    parser.add_argument("--again", action="store_true", help="forget results of earlier runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / ("demo-chaos.json" if options.chaos else "demo.json")
    known: dict[int, dict[str, Any]] = {}
    if path.exists() and not options.again:
        known = {r["seed"]: r for r in json.loads(path.read_text(encoding="utf-8"))}
    wanted = range(options.first, options.first + options.seeds)
    for seed in wanted:
        if seed not in known:
            known[seed] = run_demo(seed, options.chaos)
            ordered = [known[s] for s in sorted(known)]
            path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    reports = [known[seed] for seed in wanted]
    lines, good = verdicts(reports)
    machine = (
        f"Measured on {platform.machine()}, two shared cores, Python {platform.python_version()}."
    )
    if not options.chaos:
        write_page([machine, "", *table(reports), "", *lines])
    if options.json:
        print(json.dumps({"kept": good, "reports": reports}))
    else:
        print("\n".join([*table(reports), "", *lines]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
