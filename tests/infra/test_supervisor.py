"""The supervisor against real processes: none survives, and what dies comes back."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.supervisor import (
    EXIT_NO_BROKER,
    CrashLoop,
    Ledger,
    ProcessSpec,
    RestartPolicy,
    Supervisor,
    last_lines,
)

SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(600)"
)
FAST = RestartPolicy(max_deaths=3, within_s=30, backoff_s=0.01, backoff_max_s=0.02)


def python(name: str, code: str) -> ProcessSpec:
    return ProcessSpec(name=name, argv=(sys.executable, "-c", code))


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(true: Callable[[], bool], within_s: float = 10) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.02)


def test_ledger_doubles_the_delay_and_gives_up_at_the_limit() -> None:
    ledger = Ledger(RestartPolicy(max_deaths=4, within_s=30, backoff_s=0.2, backoff_max_s=0.5))
    assert [ledger.on_death(t, 1.0, 1) for t in (0.0, 1.0, 2.0, 3.0)] == [0.2, 0.4, 0.5, None]


def test_ledger_forgets_deaths_outside_the_span() -> None:
    ledger = Ledger(RestartPolicy(max_deaths=2, within_s=30))
    assert ledger.on_death(0.0, 60.0, 1) == 0.2
    assert ledger.on_death(31.0, 31.0, 1) == 0.2
    assert ledger.on_death(40.0, 9.0, 1) is None


def test_ledger_waits_for_a_broker_longer_than_for_a_crash() -> None:
    ledger = Ledger(RestartPolicy(max_deaths=2, within_s=30, no_broker_patience_s=100))
    for now in range(0, 100, 10):
        assert ledger.on_death(float(now), 1.0, EXIT_NO_BROKER) is not None
    assert ledger.on_death(101.0, 1.0, EXIT_NO_BROKER) is None


def test_supervisor_restarts_what_was_killed(tmp_path: Path) -> None:
    async def story() -> None:
        supervisor = Supervisor(tmp_path, FAST)
        child = await supervisor.add(python("sleeper", SLEEPER))
        first = supervisor.kill("sleeper")
        await until(lambda: child.n_starts == 2)
        assert child.pid != first
        second = child.pid
        await supervisor.stop()
        assert child.state == "stopped"
        assert second is not None
        assert not alive(second)

    asyncio.run(story())


def test_supervisor_stops_a_crash_loop_with_the_last_lines(tmp_path: Path) -> None:
    async def story() -> None:
        supervisor = Supervisor(tmp_path, FAST)
        await supervisor.add(python("broken", "print('the disk is full'); raise SystemExit(7)"))
        with pytest.raises(CrashLoop, match="exit code 7") as caught:
            await asyncio.wait_for(supervisor.failed(), 20)
        await supervisor.stop()
        assert "broken died 3 times in 30 s" in str(caught.value)
        assert "the disk is full" in str(caught.value)

    asyncio.run(story())


def test_stop_kills_what_ignores_the_request(tmp_path: Path) -> None:
    async def story() -> None:
        supervisor = Supervisor(tmp_path, FAST)
        child = await supervisor.add(python("stubborn", STUBBORN))
        await until(lambda: "up" in last_lines(child.log_path))
        pid = child.pid
        began = time.monotonic()
        await supervisor.stop(within_s=1.0)
        assert time.monotonic() - began < 1.5
        assert pid is not None
        assert not alive(pid)

    asyncio.run(story())


def test_stop_takes_what_a_child_had_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )

    async def story() -> None:
        supervisor = Supervisor(tmp_path, FAST)
        child = await supervisor.add(python("parent", code))
        await until(lambda: child.log_path.read_text().endswith("\n"))
        grandchild = int(child.log_path.read_text())
        assert alive(grandchild)
        await supervisor.stop()
        await until(lambda: not alive(grandchild))

    asyncio.run(story())


def test_nothing_survives_a_killed_supervisor(tmp_path: Path) -> None:
    child = (
        "from infra.supervisor import die_with_parent; die_with_parent(); "
        "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    )
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from infra.supervisor import *\n"
        "async def main():\n"
        "    s = Supervisor(Path(sys.argv[1]))\n"
        "    await s.add(ProcessSpec(name='c', argv=(sys.executable, '-c', sys.argv[2])))\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), child])
    log = tmp_path / "logs" / "c.log"
    asyncio.run(until(lambda: log.exists() and log.read_text().endswith("\n"), 20))
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    asyncio.run(until(lambda: not alive(int(log.read_text()))))
