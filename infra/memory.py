"""Memory of processes as the kernel counts it."""

from collections.abc import Iterable
from pathlib import Path


def sessions_memory_bytes(leaders: Iterable[int], own: int) -> int:
    """Proportional memory (PSS) of every process of the given sessions, and of `own`.

    Each supervised child leads a session, so this counts what it started as well. A page that
    several processes share counts once in the sum.
    """
    wanted = set(leaders)
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            pid = int(folder.name)
            if pid == own or _session(folder) in wanted:
                total += _pss_bytes(folder)
    return total


def _session(folder: Path) -> int:
    try:
        # field 6; the second field is a name in brackets and may hold anything
        return int((folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[3])
    except (OSError, IndexError):
        return -1


def _pss_bytes(folder: Path) -> int:
    try:
        for line in (folder / "smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
