"""A process that another program may have started: named so that no other can be hit by mistake."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessName:
    """A process id and its start time: ids are used again, but not within one clock tick."""

    pid: int
    started_ticks: int
    """Clock ticks from boot to the start of the process (field 22 of /proc/PID/stat)."""
    boot: str
    """The boot that the ticks count from."""

    @classmethod
    def of(cls, pid: int) -> ProcessName | None:
        """Names a running process; None when there is none (a zombie counts as none)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # the second field is the program's name in brackets and may hold spaces and brackets
        fields = stat.rpartition(")")[2].split()
        state, started = fields[0], int(fields[19])
        return None if state in "ZX" else cls(pid, started, _boot_id())

    def alive(self) -> bool:
        """Whether the very process that was named still runs."""
        return ProcessName.of(self.pid) == self

    def send(self, signum: signal.Signals, wait_s: float) -> bool:
        """Sends a signal to this process, no other; returns whether it is gone after the wait."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            # looked at after the handle was opened: the handle cannot move to another process
            if not self.alive():
                return True
            signal.pidfd_send_signal(handle, signum)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(wait_s * 1000))
        finally:
            os.close(handle)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
