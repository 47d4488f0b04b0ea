"""Times and durations as people write them."""

import re
from datetime import UTC, datetime

from schemas.errors import refuse, shown

_UNITS_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def parse_time(text: str, path: str) -> int:
    """UTC milliseconds of an ISO date or time (UTC where it says no zone), or of a number of them.

    Raises:
        SchemaError: it is neither; the message begins with `path`.
    """
    if text.isdigit():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        rule = "a time such as 2026-01-31, 2026-01-31T18:00Z, or UTC milliseconds"
        refuse(path, rule, shown(text))
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return round(found.timestamp() * 1000)


def parse_range(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """Both ends of `--from` and `--to`; None where nothing was said.

    Raises:
        SchemaError: one is no time, or the end is not after the start.
    """
    from_ms = None if start is None else parse_time(start, "--from")
    to_ms = None if end is None else parse_time(end, "--to")
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        refuse("--to", f"after --from {start}", str(end))
    return from_ms, to_ms


def parse_duration(text: str, path: str) -> int:
    """Milliseconds of a duration such as `6h`, `1d12h`, `200ms` or `0`.

    Raises:
        SchemaError: it is none; the message begins with `path`.
    """
    if text == "0":
        return 0
    parts = _DURATION.findall(text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        refuse(path, "a duration such as 6h, 1d12h, 200ms or 0", shown(text))
    return round(sum(float(n) * _UNITS_MS[unit] for n, unit in parts))


def show_duration(ms: int) -> str:
    """A duration as `parse_duration` reads it, in whole units."""
    if ms == 0:
        return "0"
    words = []
    for unit in ("w", "d", "h", "m", "s", "ms"):
        n, ms = divmod(ms, _UNITS_MS[unit])
        if n:
            words.append(f"{n}{unit}")
    return "".join(words)


def show_time(ms: int) -> str:
    """UTC milliseconds as an ISO time in UTC."""
    found = datetime.fromtimestamp(ms / 1000, UTC)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")
