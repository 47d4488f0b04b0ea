"""Puts the ledger under fire, proves that nothing was lost or doubled, and keeps the table.

    python -m tests.torture                      # one broker, 200,000 decisions: about ten minutes
    python -m tests.torture --brokers 3          # three brokers, three copies, two in sync
    python -m tests.torture --seed 7 --decisions 20000 --no-keep

The same seed says, breaks and repeats the same things in the same order. Results go to
benchmarks/results/torture.json and from there to the table of docs/torture.md.

Exit codes: 0 nothing was lost, doubled or changed; 1 something was (the logs are kept), or a broker
did not start; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from infra.kafka.errors import BrokerError
from tests.torture.brokers import Brokers, OneBroker, ThreeBrokers
from tests.torture.database import Database, can_have_database
from tests.torture.faults import Intensity
from tests.torture.ledger import LedgerTorture, Report, Request, Tell
from tests.torture.table import keep, table

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Return the exit code."""
    options = _options()
    parent = ROOT / ".grindstone"
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="torture-", dir=parent))
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {line}", file=sys.stderr, flush=True)

    tell(f"seed {options.seed}; logs in {folder}")
    try:
        report = run(options, folder, tell)
    except KeyboardInterrupt:
        tell("interrupted; everything that ran is ended")
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    except BrokerError as error:
        print(f"torture: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        print(table([report]))
    for problem in report.verdict.problems:
        print(f"torture: {problem}", file=sys.stderr)
    if options.keep:
        keep(report)
    if report.clean:
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    return 1


def run(options: argparse.Namespace, folder: Path, tell: Tell) -> Report:
    """Run one torture; everything that it started is ended, whatever happens."""
    brokers: Brokers = (
        ThreeBrokers(folder / "brokers") if options.brokers == 3 else OneBroker(folder / "broker")
    )
    database = Database(folder / "data") if options.database and can_have_database() else None
    request = Request(
        seed=options.seed,
        decisions=options.decisions,
        rate=options.rate,
        intensity=Intensity(
            kills=options.kills,
            pauses=options.pauses,
            brokers=options.broker_kills,
        ),
    )
    try:
        return LedgerTorture(request, folder, brokers, database, tell).run()
    finally:
        brokers.wipe()
        if database is not None:
            database.wipe()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--decisions", type=int, default=200_000, help="at least so many")
    parser.add_argument("--rate", type=float, default=600.0, help="decisions a second")
    parser.add_argument("--brokers", type=int, choices=[1, 3], default=1)
    parser.add_argument("--kills", type=int, default=10, help="of each process")
    parser.add_argument("--pauses", type=int, default=10, help="of each process")
    parser.add_argument("--broker-kills", type=int, default=3, help="of each broker")
    parser.add_argument(
        "--database", action=argparse.BooleanOptionalAction, default=True, help="with the sink"
    )
    parser.add_argument(
        "--keep", action=argparse.BooleanOptionalAction, default=True, help="keep the result"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
