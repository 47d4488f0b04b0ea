"""The whole system from the command line, on a broker of its own: it runs, tells and ends clean."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from infra.cli.common import Exit

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STOP_S = 10.0
PACE = "300"
"""Decisions a second: at the game's own 2,100 whoever looks on waits for a core."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder to run in; a process that is left over in it fails the test, and is ended."""
    yield tmp_path
    left = processes_in(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def processes_in(folder: Path) -> list[int]:
    """Processes whose working folder is `folder`: all that a run starts inherit it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (entry / "cwd").resolve() == folder.resolve():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def grindstone(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments],
        cwd=home,
        env=environ(home),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def environ(home: Path) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if "GRINDSTONE" not in name}
    return {
        **kept,
        "GRINDSTONE_DATA_DIR": str(home / "data"),
        "GRINDSTONE_RATES_DECISIONS_PER_SECOND": PACE,
        "PYTHONPATH": root,
    }


def facts(home: Path, *command: str) -> Any:
    done = grindstone(home, *command, "--json")
    assert done.returncode == Exit.OK, done.stderr
    return json.loads(done.stdout)


def wait_for(true: Callable[[], bool], within_s: float = 180) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.5)


async def send(address: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        await producer.send_and_wait(topic, value, partition=0)


def test_up_takes_bad_input_tells_what_it_does_and_goes_down(home: Path) -> None:
    started = grindstone(home, "up", "--detach", "--seed", "3")
    assert started.returncode == Exit.OK, started.stderr
    try:
        wait_for(lambda: facts(home, "status")["settled"] > 0)
        before = facts(home, "status")
        assert {row["state"] for row in before["processes"]} == {"running"}
        asyncio.run(send(before["broker"], "game-events", b"\x93 this is no event"))
        wait_for(lambda: facts(home, "status")["dead_letters"] == 1)
        wait_for(lambda: facts(home, "status")["settled"] > before["settled"] + 1000)
        letter = facts(home, "tail", "dead-letters")
        assert (letter["type"], letter["topic"]) == ("dead_letter.v1", "game-events")
        decision = facts(home, "tail", "game-events", "-n", "1", "--filter", "type=decision.v2")
        assert decision["policy_version"] == "scripted"
        assert all(topic["exists"] for topic in facts(home, "topics"))
        assert facts(home, "models") == []
        proof = facts(home, "verify", "--live")
        assert (proof["ok"], proof["lost"], proof["doubled"]) == (True, 0, 0)
    finally:
        began = time.monotonic()
        down = grindstone(home, "down")
        took = time.monotonic() - began
    assert down.returncode == Exit.OK, down.stderr
    assert took < STOP_S + 5  # the command's own start on a loaded machine included


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_in_time(home: Path, number: signal.Signals) -> None:
    out = home / "out.txt"
    with out.open("wb") as stream:
        demo = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "demo", "--json"],
            cwd=home,
            env=environ(home),
            stdout=stream,
            stderr=stream,
        )
    wait_for(lambda: "starting the processes" in out.read_text(), 90)
    time.sleep(1.0)  # some have started, some have not
    began = time.monotonic()
    demo.send_signal(number)
    assert demo.wait(STOP_S * 3) == Exit.INTERRUPTED, out.read_text()
    assert time.monotonic() - began < STOP_S
