"""The stream's speed beside its peers', on the same events, in one run.

    python -m benchmarks.stream --rounds 3          # about two minutes a round, after the set-up

Each round starts the peers' broker with 500,000 events, lets every contender join, reward and write
them, and checks the outputs: Kafka Streams, Bytewax and Quix by their own programs, Grindstone on
its engine under the Faust agent, exactly once. Figures are medians over the rounds of events per
CPU second. Decoding and rewards on columns are measured apart, without a broker.

Exit codes: 0 all targets are met, 1 one is missed or an output is wrong, 2 no peers or wrong usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "stream.json"
PEERS_DIR = ROOT.parent / "shared" / "peers"
WORK_DIR = Path.home() / ".cache" / "stream-peers"
KINDS = ["single", "packs", "single-whole", "packs-whole", "rewards"]
PEERS = ["ks-mem-eos", "ks-rocksdb-eos", "bytewax-recovery", "quix-alo", "quix-eos"]
ROUND_LIMIT_S = 1_800.0
"""The first one makes the peers' environments."""


class Target(msgspec.Struct, frozen=True):
    """A promise: the figure of one row at least so many times that of another."""

    row: str
    times: float
    other: str


TARGETS = [
    Target("single", 1.5, "ks-mem-eos"),
    Target("single", 2.0, "bytewax-recovery"),
    Target("single", 3.0, "quix-alo"),
    Target("packs", 4.0, "ks-mem-eos"),
    Target("decode packs", 15.0, "decode faust.Record"),
    Target("rewards on columns", 100.0, "rewards per event"),
]
"""The faster kind of each peer is what counts; a peer's figure is that of its warm half."""


class Row(msgspec.Struct):
    """A contender's figures, in events per CPU second, over the rounds."""

    name: str
    whole: list[float] = []
    warm: list[float] = []
    """Of the second half alone: a JVM has compiled, caches are full."""
    per_wall: list[float] = []
    right: bool = True
    """Outputs were equal to what the events' generator says, in every round."""

    @property
    def figure(self) -> float:
        """What it is judged by: the warm half; for Grindstone the lower of both."""
        if self.name in PEERS or not self.warm:
            return median(self.warm or self.whole)
        return min(median(self.warm), median(self.whole))


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def run_round(options: argparse.Namespace, names: list[str], ours: Path) -> list[dict[str, Any]]:
    """Run every contender once; returns the peers' lines. Ours are in the file `ours`.

    Raises:
        RuntimeError: the peers' script failed.
    """
    contender = [
        "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "benchmarks.stream_round",
        "--results", str(ours), "--work", str(options.work), "--kinds", options.kinds,
    ]  # fmt: skip
    environment = os.environ | {"PEERS_DIR": str(options.work), "PEER_CMD": shlex.join(contender)}
    command = [str(options.peers / "bench.sh"), "1", *names]
    with subprocess.Popen(
        command,
        env=environment,
        stdout=sys.stderr,
        start_new_session=True,
    ) as script:
        try:
            code = script.wait(ROUND_LIMIT_S)
        except BaseException:
            end_group(script)
            raise
    results = options.work / "results.jsonl"
    if code or not results.exists():
        msg = f"{command[0]} must end with 0; got {code}"
        raise RuntimeError(msg)
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def end_group(script: subprocess.Popen[bytes]) -> None:
    """Stop the script and all that it started, the broker with it."""
    for number, wait_s in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(script.pid, number)
            until = time.monotonic() + wait_s
            while time.monotonic() < until:
                script.poll()
                os.killpg(script.pid, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            return


def collect(rows: dict[str, Row], lines: list[dict[str, Any]]) -> None:
    """Add the figures of a round."""
    for line in lines:
        if line["name"] == "ours":  # the same run is among our own lines
            continue
        row = rows.setdefault(line["name"], Row(line["name"]))
        row.whole.append(line["ev_per_cpu_s"])
        row.warm.append(line["ev_per_cpu_s_2nd_half"])
        row.per_wall.append(line["ev_per_wall_s"])
        row.right = row.right and (line["ok"] if "ok" in line else line["check"]["ok"])


def in_process(rows: dict[str, Row]) -> None:
    """Add what needs no broker: decoding, and rewards on columns."""
    for module in ("benchmarks.stream_decode", "benchmarks.rewards_columns"):
        say(f"measuring {module}")
        command = [sys.executable, "-m", module, "--json"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        text = done.stdout.strip()
        for name, figure in (json.loads(text.splitlines()[-1])["rows"] if text else {}).items():
            rows[name] = Row(name, whole=[figure])


def judge(rows: dict[str, Row]) -> list[dict[str, Any]]:
    """Return each target with what was measured; one whose rows are missing is not met."""
    verdicts = []
    for t in TARGETS:
        ratio = None
        if t.row in rows and t.other in rows:
            ratio = round(rows[t.row].figure / rows[t.other].figure, 2)
        verdicts.append(
            {
                "row": t.row,
                "of": t.other,
                "target": t.times,
                "measured": ratio,
                "met": ratio is not None and ratio >= t.times,
            }
        )
    return verdicts


def table(rows: dict[str, Row], verdicts: list[dict[str, Any]]) -> list[str]:
    """Return the tables in Markdown."""
    lines = [
        "| contender | rounds | events per CPU s | warm half | per wall s | outputs |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows.values(), key=lambda r: -r.figure):
        cells = [f"{median(v):,.0f}" if v else "" for v in (row.whole, row.warm, row.per_wall)]
        right = ("equal" if row.right else "WRONG") if row.warm else ""
        lines.append(f"| {row.name} | {len(row.whole)} | {' | '.join(cells)} | {right} |")
    lines += ["", "| target | at least | measured | |", "|---|---|---|---|"]
    for v in verdicts:
        got = "not measured" if v["measured"] is None else f"{v['measured']:,.2f} times"
        met = "met" if v["met"] else "MISSED"
        lines.append(f"| {v['row']} against {v['of']} | {v['target']:g} times | {got} | {met} |")
    return lines


def arguments() -> argparse.Namespace:
    """Read the command line."""
    text = __doc__ or ""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=PEERS_DIR, help=f"default: {PEERS_DIR}")
    parser.add_argument("--work", type=Path, default=WORK_DIR, help=f"default: {WORK_DIR}")
    parser.add_argument("--names", default=",".join(PEERS), help="peers, with commas")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of ours, with commas")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds; returns what is written to the result file."""
    rows: dict[str, Row] = {}
    names = [name for name in options.names.split(",") if name]
    options.work.mkdir(parents=True, exist_ok=True)
    ours = options.work / "grindstone.jsonl"
    for n in range(options.rounds):
        say(f"round {n + 1} of {options.rounds}")
        ours.unlink(missing_ok=True)
        collect(rows, run_round(options, ["ours", *names], ours))
        if ours.exists():
            collect(rows, [json.loads(x) for x in ours.read_text(encoding="utf-8").splitlines()])
    in_process(rows)
    verdicts = judge(rows)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "load": round(os.getloadavg()[0], 1),
        "rows": [msgspec.to_builtins(r) | {"figure": r.figure} for r in rows.values()],
        "targets": verdicts,
        "table": table(rows, verdicts),
    }


def main() -> int:
    """Measure, print the table, write the result."""
    options = arguments()
    script = options.peers / "bench.sh"
    if not script.is_file():
        say(
            f"benchmarks.stream: --peers must be the folder of the peers' bench.sh; got none at "
            f"{options.peers} (nothing was measured)"
        )
        return 2
    try:
        result = measure(options)
    except KeyboardInterrupt:
        say("benchmarks.stream: interrupted")
        return 130
    except RuntimeError as error:
        say(f"benchmarks.stream: {error}")
        return 1
    options.result.parent.mkdir(parents=True, exist_ok=True)
    options.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result) if options.json else "\n".join(result["table"]))
    right = all(row["right"] for row in result["rows"])
    return 0 if right and all(v["met"] for v in result["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
