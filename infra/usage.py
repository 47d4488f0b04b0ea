"""Memory and processor time of processes as the kernel counts them."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Usage(msgspec.Struct):
    """What a session of processes has taken."""

    memory_bytes: int = 0
    """Proportional (PSS): a page that several processes share counts once in a sum."""
    cpu_s: float = 0.0
    """User and system time of the processes that are alive."""


def sessions_usage(leaders: Mapping[int, str]) -> dict[str, Usage]:
    """Usage by name of every process in the sessions led by the given process ids.

    Each supervised child leads a session, so this counts what it started as well.
    """
    found = {name: Usage() for name in leaders.values()}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        fields = _stat(folder)
        name = leaders.get(int(fields[3])) if fields else None
        if name is None:
            # this process itself need not lead a session
            name = leaders.get(int(folder.name))
        if name is not None and fields:
            found[name].memory_bytes += _pss_bytes(folder)
            found[name].cpu_s += (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
    return found


def _stat(folder: Path) -> list[str]:
    """Fields of /proc/PID/stat from the third on; the second is a name and may hold anything."""
    try:
        return (folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def _pss_bytes(folder: Path) -> int:
    try:
        for line in (folder / "smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
