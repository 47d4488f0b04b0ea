"""Exits 0 when every `name==version` line of the given file is installed, whatever its build."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def missing(requirements: str) -> list[str]:
    """Returns the pins of a requirements text that this interpreter does not have."""
    absent = []
    for line in requirements.splitlines():
        name, pinned, wanted = line.partition("==")
        if not pinned or line.startswith("#"):
            continue
        try:
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            found = ""
        if found != wanted.strip():
            absent.append(line)
    return absent


if __name__ == "__main__":
    raise SystemExit(bool(missing(Path(sys.argv[1]).read_text(encoding="utf-8"))))
