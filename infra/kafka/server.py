"""What the broker and the database have in common: a process, a state file, a wait, a command."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, NoReturn, Protocol, TypeVar

import msgspec

from infra.kafka.errors import BrokerError
from infra.kafka.process import ProcessName

T = TypeVar("T")

REAP_S = 20.0
"""For a wrapper to end behind the server that it runs."""


class ServerProcess:
    """One server with its data in a folder, which another program may have started."""

    def __init__(self, folder: Path, log: str) -> None:
        self.folder = folder
        self.log = folder / log
        self._child: subprocess.Popen[bytes] | None = None
        self._name_file = folder / "process.json"

    def process(self) -> ProcessName | None:
        """Names the server's process; None when it does not run, or was never noted."""
        if self._child is not None:
            self._child.poll()
        try:
            name = msgspec.json.decode(self._name_file.read_bytes(), type=ProcessName)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return name if name.alive() else None

    def alive(self) -> bool:
        """Whether the server's process runs; it may not answer yet."""
        return (self._child is not None and self._child.poll() is None) or bool(self.process())

    def wipe(self) -> None:
        """Removes all data; the process must be gone."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def log_tail(self, lines: int = 12) -> str:
        """Returns the last lines that the server wrote."""
        try:
            return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _spawn(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Starts the program and returns its process id."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                # Ctrl-C is for whoever started us; the server is stopped last, on purpose
                start_new_session=True,
            )
        return self._child.pid

    def _note(self, pid: int) -> None:
        """Keeps the name of the server's process for those who look for it."""
        name = ProcessName.of(pid)
        if name is not None:
            self._name_file.write_bytes(msgspec.json.encode(name))

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait(REAP_S)
            self._child = None

    def _prepare(
        self, words: Sequence[str], what: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Runs a program that makes the folder ready.

        Raises:
            BrokerError: it failed; the message holds the last lines that it wrote.
        """
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.returncode:
            self.log.write_text(done.stdout + done.stderr, "utf-8")
            self._fail(what)

    def _fail(self, what: str) -> NoReturn:
        message = f"{what}; the last lines of {self.log}:\n{self.log_tail()}"
        raise BrokerError(message)


class StateFile(Generic[T]):
    """What a run folder says of a server, readable by its owner only."""

    def __init__(self, path: Path, of: type[T], whose: str) -> None:
        self.path = path
        self._of = of
        self._whose = whose

    def load(self) -> T | None:
        """Returns what was saved last, None before that.

        Raises:
            BrokerError: the file holds something else.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=self._of)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            message = f"{self.path} must be a {self._whose}'s state; got {error}: remove the file"
            raise BrokerError(message) from error

    def save(self, state: T) -> None:
        """Replaces the file in one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".part")
        aside.touch(0o600)
        aside.write_bytes(msgspec.json.encode(state))
        aside.replace(self.path)


class Watched(Protocol):
    """What runs a server: a process or a container."""

    def alive(self) -> bool:
        """Whether it runs."""

    def log_tail(self, lines: int = 12) -> str:
        """Returns the last lines that it wrote."""


def await_answer(
    ask: Callable[[], str | None], runner: Watched, who: str, timeout_s: float
) -> None:
    """Returns once a server answers.

    Args:
        ask: returns None when it does, else why it does not.
        runner: what runs the server.
        who: its name in the message.
        timeout_s: seconds to wait at most.

    Raises:
        BrokerError: it ended or does not answer in time; the message holds the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    while (said := ask()) is not None:
        alive = runner.alive()
        if not alive or time.monotonic() > deadline:
            what = f"does not answer after {timeout_s:.0f} s ({said})" if alive else "ended"
            message = f"{who} {what}:\n{runner.log_tail()}"
            raise BrokerError(message)
        time.sleep(0.05)


class LocalServer(Protocol):
    """A server that `run_command` controls."""

    def start(self) -> object:
        """Starts it, or finds it running."""

    def stop(self) -> None:
        """Ends it cleanly and keeps its data."""

    def kill(self) -> None:
        """Ends it as a crash would and keeps its data."""

    def wipe(self) -> None:
        """Ends it and removes its data."""

    def serving(self) -> bool:
        """Whether it answers."""


def command_line(module: str, description: str | None) -> argparse.ArgumentParser:
    """Returns the parser of a local server's commands."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("command", choices=["start", "stop", "kill", "status", "wipe"])
    parser.add_argument("--run-dir", type=Path, required=True)
    return parser


S = TypeVar("S", bound=LocalServer)


def run_command(command: str, make: Callable[[], S], where: Callable[[S], str | None]) -> int:
    """Runs one command on the server of a run folder; returns the exit status."""
    try:
        server = make()
        if command == "status":
            serving = server.serving()
            print(f"{where(server) or '-'} {'serving' if serving else 'stopped'}")
            return 0 if serving else 3
        getattr(server, command)()
        if command == "start":
            print(where(server))
    except BrokerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
