"""The learners' speed beside their peers, in one run, one thread, CPU seconds, medians.

    make bench-learn                                # writes benchmarks/results/learn.json
    make bench-learn ARGS="--parts replay --rounds 5 --json"
    make bench-learn ARGS="--parts none --docs docs/performance.md"  # the last results there

Each part is a module `benchmarks/learn_<part>.py` with `measure(rounds) -> dict`: its `rows` are
printed as a table, its `targets` are judged. A part run alone leaves the others' last results in
the file. Exit code 0 when every target that could be measured is met, 1 when one is missed, 2 when
a part could not be run (a peer is not installed: the message says how to get it).
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "learn.json"
NOT_THERE = "not there"
TITLES = {
    "replay": "Replay beside cpprb and Stable-Baselines3",
    "windows": "Windows beside lists of a fixed size",
    "stacked": "Six stacked DQNs beside six in a row",
    "onnx": "One decision in onnxruntime beside torch eager",
    "rotation": "54 models in one process, asked in rotation",
}
PARTS = list(TITLES)
BEGIN, END = "<!-- learn: made by benchmarks/learn.py -->", "<!-- /learn -->"


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def present(part: str) -> bool:
    """Return whether a part's module is there."""
    return importlib.util.find_spec(f"benchmarks.learn_{part}") is not None


def run(part: str, rounds: int) -> dict[str, Any]:
    """Measure one part; where and when is told with the figures."""
    measured: dict[str, Any] = importlib.import_module(f"benchmarks.learn_{part}").measure(rounds)
    load = os.getloadavg()[0]
    return {
        **measured,
        "rounds": rounds,
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": platform.machine(), "cores": os.cpu_count(), "load": round(load, 1),
            "python": platform.python_version(), "torch": torch.__version__,
        },
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows as lines of a Markdown table, whose columns are those of the first row."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return lines + ["| " + " | ".join(str(r.get(n, "")) for n in names) + " |" for r in rows]


def judged(targets: list[dict[str, Any]]) -> list[str]:
    """Return a line for each target: ``name``, ``bound`` ("at least" or "at most"), and values."""
    words = {True: "met", False: "MISSED", None: "not measured"}
    return [
        f"- {t['name']}: {NOT_THERE if t['value'] is None else t['value']},"
        f" {t['bound']} {t['limit']}: {words[t['met']]}"
        for t in targets
    ]


def target(name: str, value: float | None, bound: str, limit: float) -> dict[str, Any]:
    """Return a target and whether it is met; None: its peer is not there."""
    if value is None:
        return {"name": name, "value": None, "bound": bound, "limit": limit, "met": None}
    met = value >= limit if bound == "at least" else value <= limit
    return {"name": name, "value": round(value, 2), "bound": bound, "limit": limit, "met": met}


def lines_of(part: str, result: dict[str, Any]) -> list[str]:
    """Return a part's table and targets as lines of Markdown."""
    machine = result["machine"]
    where = (
        f"Measured {result['measured'][:10]} on {machine['cores']} cores ({machine['cpu']}) at a"
        f" load of {machine['load']}, {result['rounds']} rounds, Python {machine['python']}, torch"
        f" {machine['torch']}."
    )
    peers = ", ".join(f"{name} {version}" for name, version in result.get("peers", {}).items())
    told = [*table(result["rows"]), "", *judged(result["targets"])]
    return [f"### {TITLES[part]}", "", f"{where} {peers}".strip(), "", *told, ""]


def document(path: Path, results: dict[str, Any]) -> None:
    """Write all parts' last results between the marks of a document."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [line for part in PARTS if part in results for line in lines_of(part, results[part])]
    text = "\n".join([before + BEGIN, *lines, END + after])
    path.write_text(text, encoding="utf-8")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(p for p in PARTS if present(p)))
    parser.add_argument("--rounds", type=int, default=7, help="of each measurement (default 7)")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--docs", type=Path, help="a document to put the tables into")
    options = parser.parse_args()
    options.parts = [] if options.parts == "none" else options.parts.split(",")
    unknown = [p for p in options.parts if p not in PARTS or not present(p)]
    if unknown or options.rounds < 1:
        known = ", ".join(p for p in PARTS if present(p))
        parser.error(f"--parts must be some of {known} and --rounds at least 1; got {unknown}")
    return options


def main() -> int:
    """Measure, print and write."""
    options = arguments()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    if options.result.exists():
        results = json.loads(options.result.read_text(encoding="utf-8"))
    code = 0
    try:
        for part in options.parts:
            say(f"benchmarks.learn: {part}")
            results[part] = run(part, options.rounds)
            missing = results[part].get("missing", [])
            for text in missing:
                say(f"  {text}")
            missed = any(t["met"] is False for t in results[part]["targets"])
            code = max(code, 2 if missing else int(missed))
            options.result.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        say("benchmarks.learn: interrupted; the parts that were finished are written")
        return 130
    if options.docs:
        document(options.docs, results)
    chosen = {part: results[part] for part in options.parts}
    if options.json:
        print(json.dumps(chosen))
        return code
    for part, result in chosen.items():
        print("\n".join([f"\n{part}", *table(result["rows"]), *judged(result["targets"])]))
    return code


if __name__ == "__main__":
    sys.exit(main())
