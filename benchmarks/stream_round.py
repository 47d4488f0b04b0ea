"""Our side of one round beside the peers, in the form that their harness calls a contender.

    python -m benchmarks.stream_round --results FILE --work DIR [BOOTSTRAP] OUT_TOPIC

Measures every kind of `benchmarks.stream_worker` in a process of its own on the peers' broker,
checks what each has written, appends a JSON line for each to FILE, and prints that of ``single``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.stream_rewards import TOPIC as REWARDS_TOPIC
from benchmarks.stream_rewards import load
from benchmarks.stream_worker import SOURCES
from schemas.kafka import KafkaSettings
from streams.reader import ReadError, read_records, topic_spans

ORDER = ["single", "packs", "single-whole", "packs-whole", "rewards"]
"""The first is the peers' `ours`: their harness checks its output topic itself."""
LIMIT_S = 150.0
BOOTSTRAP = "127.0.0.1:39092"
"""Where the peers' script starts its broker."""


class Outcome(msgspec.Struct):
    """What an output topic holds."""

    outputs: int = 0
    distinct: int = 0
    sum: float = 0.0
    timeouts: int = 0
    digest: str = ""
    """Of ids, rewards and how each was settled, in the order of ids."""


def digest_rows(rows: list[dict[str, Any]]) -> Outcome:
    """Return what the rows come to, whatever their order."""
    facts = sorted((r["decision_id"], r["reward"], r["settled"]) for r in rows)
    return Outcome(
        outputs=len(rows),
        distinct=len({f[0] for f in facts}),
        sum=round(math.fsum(f[1] for f in facts), 6),
        timeouts=sum(f[2] == "timeout" for f in facts),
        digest=hashlib.sha256(repr(facts).encode()).hexdigest()[:16],
    )


async def outcome_of(kafka: KafkaSettings, topic: str) -> Outcome:
    """Read an output topic: single JSON rows or MessagePack arrays of them."""
    rows: list[dict[str, Any]] = []
    async for records in read_records(kafka, topic):
        for record in records:
            if record.value[:1] == b"{":
                rows.append(msgspec.json.decode(record.value))
            else:
                rows += msgspec.msgpack.decode(record.value)
    return digest_rows(rows)


def is_right(outcome: Outcome, expected: dict[str, Any]) -> bool:
    """Return whether outputs are as the generator of the events says."""
    return bool(
        outcome.outputs == outcome.distinct == expected["outputs"]
        and outcome.timeouts == expected["timeouts"]
        and abs(outcome.sum - expected["sum_reward"]) < 1e-5
    )


def run_worker(kind: str, bootstrap: str, topic: str) -> dict[str, Any]:
    """Measure one kind; returns its line.

    Raises:
        RuntimeError: it did not print one.
    """
    command = [sys.executable, "-m", "benchmarks.stream_worker", kind, bootstrap, topic]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        msg = f"{kind} must print a line of JSON; got exit {done.returncode}: {done.stderr[-800:]}"
        raise RuntimeError(msg)
    report: dict[str, Any] = json.loads(lines[-1])
    return report


async def prepare(kafka: KafkaSettings, work: Path) -> None:
    """Load the topic of the rewards agent, if no round before has."""
    try:
        spans = await topic_spans(kafka, REWARDS_TOPIC)
        there = any(span.end for span in spans.values())
    except ReadError:
        there = False
    if not there:
        await load(kafka.bootstrap_servers, work / "data" / "events.jsonl")


def measure(kind: str, bootstrap: str, topic: str, expected: dict[str, Any]) -> dict[str, Any]:
    """Measure and check one kind."""
    report = run_worker(kind, bootstrap, topic)
    report["name"] = kind
    if kind == "rewards":  # its rule is another one: each event counts, and each row is a decision
        report["ok"] = report["events"] == expected["events"]
        return report
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    outcome = asyncio.run(outcome_of(kafka, topic))
    report["check"] = msgspec.to_builtins(outcome)
    report["ok"] = is_right(outcome, expected) and report["outputs"] == outcome.outputs
    return report


def main() -> int:
    """Measure all kinds; exit 1 when outputs are not right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="the peers' work folder")
    parser.add_argument("--kinds", default=",".join(ORDER), help=f"of {', '.join(SOURCES)}")
    parser.add_argument("places", nargs="+", help="the broker, if the harness names it; the topic")
    options = parser.parse_args()
    *bootstrap, options.out = options.places
    options.bootstrap = bootstrap[0] if bootstrap else BOOTSTRAP
    expected = json.loads((options.work / "data" / "expected.json").read_text(encoding="utf-8"))
    kafka = KafkaSettings(bootstrap_servers=options.bootstrap)
    if "rewards" in options.kinds.split(","):
        asyncio.run(prepare(kafka, options.work))
    good, reports = True, []
    for kind in options.kinds.split(","):
        topic = options.out if kind == "single" else f"{options.out}-{kind}"
        if kind != "single":
            asyncio.run(delete(kafka, topic))
        try:
            report = measure(kind, options.bootstrap, topic, expected)
        except (subprocess.TimeoutExpired, RuntimeError) as error:  # the others still count
            print(f"benchmarks.stream_round: {kind}: {error}", file=sys.stderr, flush=True)
            good = False
            continue
        good = good and report["ok"]
        with options.results.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(report) + "\n")
        reports.append(json.dumps(report))
    print("\n".join(reversed(reports)), flush=True)  # the harness takes the last line
    return 0 if good else 1


async def delete(kafka: KafkaSettings, topic: str) -> None:
    """Remove an output topic of a round before."""
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(**kafka.client())
    await admin.start()
    try:
        if topic in await admin.list_topics():
            await admin.delete_topics([topic])
        while topic in await admin.list_topics():
            await asyncio.sleep(0.1)
    finally:
        await admin.close()


if __name__ == "__main__":
    sys.exit(main())
