"""Starts the processes of a torture, starts again what dies, and breaks them on demand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from infra.supervisor import PARENT_VARIABLE

ROOT = Path(__file__).parents[2]
_RECOVERED = re.compile(r"^(\S+ \S+) \d+ \S+\[(\d+)\] recovered ")
_STOP_S = 25.0


class Crew:
    """Processes by role, e.g. ``rewards-0``; each writes a log of its own."""

    def __init__(self, folder: Path, place_file: Path) -> None:
        self._folder = folder
        self._place_file = place_file
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._since: dict[str, float] = {}
        self._held: set[str] = set()
        self.exits: Counter[str] = Counter()
        """Ends that nobody asked for, by role and exit code: fenced zombies, mostly."""
        self.done: set[str] = set()
        """Roles that have ended by themselves with 0."""

    def start(self, role: str) -> None:
        """Start a role's process."""
        with (self._folder / f"{role}.log").open("ab") as log:
            self._running[role] = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.roles", role, str(self._place_file)],
                cwd=ROOT,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the torturer alone
            )
        self._since[role] = time.monotonic()

    async def supervise(self) -> None:
        """Start again what dies, until cancelled."""
        while True:
            for role, process in list(self._running.items()):
                code = process.poll()
                if code is None or role in self._held or role in self.done:
                    continue
                if code == 0:
                    self.done.add(role)
                    continue
                self.exits[f"{role.partition('-')[0]} {code}"] += 1
                if time.monotonic() - self._since[role] > 1.0:  # else it would spin
                    self.start(role)
            await asyncio.sleep(0.2)

    def age_s(self, role: str) -> float:
        """Return how long a role's process has run; 0 when it does not."""
        process = self._running.get(role)
        if process is None or process.poll() is not None:
            return 0.0
        return time.monotonic() - self._since[role]

    async def kill(self, role: str, away_s: float) -> None:
        """SIGKILL; started again after a while."""
        self._held.add(role)
        process = self._running[role]
        process.kill()
        process.wait()
        await asyncio.sleep(away_s)
        self.start(role)
        self._held.discard(role)

    async def pause(self, role: str, away_s: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        self._send(role, signal.SIGSTOP)
        try:
            await asyncio.sleep(away_s)
        finally:
            self._send(role, signal.SIGCONT)

    async def block(self, role: str, away_s: float) -> None:
        """Block the event loop, for as long as the process was told at its start."""
        while not _catches(self._running[role].pid, signal.SIGUSR1):
            await asyncio.sleep(0.1)  # a process that is still loading would die of it
        self._send(role, signal.SIGUSR1)
        await asyncio.sleep(away_s)

    async def leave(self, role: str) -> None:
        """SIGTERM, and a new start."""
        self._held.add(role)
        await self.stop(role)
        self.start(role)
        self._held.discard(role)

    async def stop(self, role: str) -> int:
        """End a role's process cleanly and return its exit code."""
        self._held.add(role)
        process = self._running[role]
        self._send(role, signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            self.exits[f"{role.partition('-')[0]} did not stop"] += 1
            process.kill()
            return process.wait()

    def kill_all(self) -> None:
        """End everything at once."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def moves(self) -> int:
        """Return how often a partition went to the other rewards worker, by what they logged."""
        taken: list[tuple[str, int, str]] = []
        for path in self._folder.glob("rewards-*.log"):
            for line in path.read_text(errors="replace").splitlines():
                found = _RECOVERED.match(line)
                if found:
                    taken.append((found[1], int(found[2]), path.stem))
        owners: dict[int, str] = {}
        n = 0
        for _, partition, owner in sorted(taken):
            n += owners.get(partition, owner) != owner
            owners[partition] = owner
        return n

    def _send(self, role: str, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._running[role].send_signal(number)


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
