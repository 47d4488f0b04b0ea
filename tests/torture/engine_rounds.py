"""The engine alone, with a fold that counts: ``python -m tests.torture.engine_rounds``.

Runs rounds of random faults, broker kills among them unless a broker is given, until the time is
up. Prints a JSON line a round; exits 1 after the first that is not clean.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from infra.kafka.broker import LocalBroker
from tests.torture.driver import Torture, random_plan

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture.engine_rounds", description=__doc__
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--faults", type=int, default=8, help="faults a round")
    parser.add_argument("--rate", type=float, default=400.0, help="records a second")
    parser.add_argument("--bootstrap", help="a running broker, which is then not killed")
    args = parser.parse_args()
    parent = ROOT / ".grindstone"
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="torture-", dir=parent))
    print(f"logs in {folder}", file=sys.stderr)
    code = (
        rounds(args, args.bootstrap, folder, None) if args.bootstrap else own_broker(args, folder)
    )
    if code == 0:
        shutil.rmtree(folder)
    return code


def own_broker(args: argparse.Namespace, folder: Path) -> int:
    """Torture on a broker of our own, which is killed too."""
    own = LocalBroker(folder / "broker")

    def break_broker() -> None:
        own.kill()
        own.start()

    try:
        return rounds(args, own.start(), folder, break_broker)
    finally:
        own.wipe()


def rounds(
    args: argparse.Namespace, bootstrap: str, folder: Path, break_broker: Callable[[], None] | None
) -> int:
    """Torture until the time is up; 0 when every round was clean."""
    until = time.monotonic() + args.minutes * 60
    seed = args.seed
    while time.monotonic() < until:
        logs = folder / f"seed-{seed}"
        logs.mkdir()
        torture = Torture(
            bootstrap,
            f"torture-{seed}-{uuid.uuid4().hex[:6]}-",
            logs,
            seed=seed,
            break_broker=break_broker,
        )
        plan = random_plan(seed, args.faults, with_broker=break_broker is not None)
        report = asyncio.run(torture.run(plan, backlog=10_000, rate=args.rate))
        print(msgspec.json.encode(report).decode(), flush=True)
        if not report.verdict.clean:
            return 1
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
