"""Work spread over processes ends with the process that asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

from streams.pool import Tell, run_all
from tests.support import eventually


def name_and_stay(job: str, tell: Tell) -> None:
    Path(job).write_text(str(os.getpid()))
    signal.pause()


class SlowToArrive:
    """A job whose process is still starting when the one that started it has ended, if it may."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return wait_for_end, (os.getpid(),)


def wait_to_be_ended(job: SlowToArrive, tell: Tell) -> None:
    signal.pause()


def wait_for_end(pid: int) -> None:
    eventually(lambda: not alive(pid), 60, "the end of the one that started it")


def main() -> None:
    run_all([sys.argv[1]], name_and_stay)


def interrupted_while_starting() -> None:
    told = forkserver.read_signed

    def interrupt(fd: int) -> int:
        pid: int = told(fd)
        os.kill(os.getpid(), signal.SIGINT)
        return pid

    forkserver.read_signed = interrupt
    # What a shell runs in the background, as these tests may be, is deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_all([SlowToArrive()], wait_to_be_ended)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)


def start(call: str, *arguments: str) -> subprocess.Popen[str]:
    program = f"import sys; from test_pool import {call}; {call}()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
        stderr=subprocess.PIPE,
        text=True,
    )


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_job_dies_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "pid"
    starter = start("main", str(place))

    def number() -> str:
        assert starter.poll() is None
        return place.read_text() if place.exists() else ""

    job = int(eventually(number, 60, "the job's number"))
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    eventually(lambda: not alive(job), 60, "the job's end")


def test_ctrl_c_while_a_job_starts_ends_it_too() -> None:
    """It would tell of the locks that are gone, after the last word of the one that started it."""
    _, err = start("interrupted_while_starting").communicate(timeout=60)
    assert err == "interrupted\n"


def test_the_server_is_deaf_to_ctrl_c_from_its_first_moment() -> None:
    """It imports the work before it has a handler of its own: what protects it is its mask."""
    program = (
        "from multiprocessing import forkserver; from streams.pool import _start_server;"
        "_start_server(); print(forkserver._forkserver._forkserver_pid, flush=True); input()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    server = starter.stdout.readline().strip()
    told = Path(f"/proc/{server}/status").read_text()
    starter.communicate("\n", timeout=60)
    blocked = next(line.split()[1] for line in told.splitlines() if line.startswith("SigBlk:"))
    assert int(blocked, 16) & 1 << signal.SIGINT - 1
