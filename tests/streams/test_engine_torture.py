from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.torture.driver import Step, Torture


@pytest.mark.integration
@pytest.mark.slow
def test_engine_torture_loses_doubles_and_miscounts_nothing(
    broker: str, topics_prefix: str, tmp_path: Path
) -> None:
    torture = Torture(broker, topics_prefix, tmp_path, seed=7)
    plan = [Step("kill", 0), Step("stop", 1), Step("leave", 0), Step("block", 0)]

    report = asyncio.run(torture.run(plan, backlog=4_000, rate=400.0))

    assert report.verdict.clean, report
    assert report.verdict.inputs >= 4_000
    assert [code for _, code in report.exits] == [75, 75], "both zombies are fenced"
    assert all(seconds < 5.0 for seconds in report.stop_s), report
