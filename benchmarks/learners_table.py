"""The table of all models in docs/learners.md, made from a training's report.

python -m benchmarks.learners_table REPORT.json    keeps the report's facts and fills the table in
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from infra.learn.report import lines_of, read_report, render_markdown

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "learners.md"
RESULTS = ROOT / "benchmarks" / "results" / "learners.json"
BEGIN, END = "<!-- table: learners -->\n", "<!-- /table -->"


class Kept(msgspec.Struct, frozen=True):
    """What is kept of a report: its table, and the lines that it was made of."""

    markdown: str
    lines: list[dict[str, object]]


def kept_of(report: Path) -> Kept:
    """Return what is kept of a report; no path of the machine is in it."""
    found = read_report(report)
    lines = [msgspec.to_builtins(line) for line in lines_of(found)]
    for line in lines:
        del line["folder"]
    return Kept(markdown=render_markdown(found), lines=lines)


def filled(page: str, markdown: str, begin: str = BEGIN) -> str:
    """Return a page with a table in the place that begins with a mark."""
    before, rest = page.split(begin, 1)
    _, after = rest.split(END, 1)
    return f"{before}{begin}{markdown}{END}{after}"


def main() -> None:
    """Fill the table in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    kept = kept_of(parser.parse_args().report)
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    DOCS.write_text(filled(DOCS.read_text("utf-8"), kept.markdown), "utf-8")


if __name__ == "__main__":
    main()
