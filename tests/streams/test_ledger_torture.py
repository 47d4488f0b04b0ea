from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.brokers import OneBroker
from tests.torture.database import Database, can_have_database
from tests.torture.faults import Intensity
from tests.torture.ledger import LedgerTorture, Request


@pytest.mark.integration
@pytest.mark.slow
def test_ledger_under_fire_loses_and_doubles_nothing(scratch: Path) -> None:
    folder = scratch / "ledger"
    folder.mkdir()
    once = Intensity(kills=1, pauses=1, leaves=0, blocks=0, brokers=1, databases=1)
    request = Request(seed=11, decisions=6_000, rate=300.0, actors=60, intensity=once)
    brokers = OneBroker(folder / "broker")
    database = Database(folder / "data") if can_have_database() else None
    try:
        report = LedgerTorture(request, folder, brokers, database, print).run()
    finally:
        brokers.wipe()
        if database is not None:
            database.wipe()

    assert report.clean, report.verdict.problems
    assert report.faults["kill rewards"] == report.faults["pause rewards"] == 2
    assert report.faults["broker 1"] == 1
    verdict = report.verdict
    assert verdict.decisions >= 5_900  # some of the 6,000 are bad by intent
    assert (verdict.lost, verdict.doubled, verdict.changed, verdict.steps_back) == (0, 0, 0, 0)
    assert verdict.again > 0
    assert verdict.dead_letters > 0
    assert verdict.said.late > 0
