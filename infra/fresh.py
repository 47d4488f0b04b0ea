"""Files that are made whole or not at all, and never over one that is there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from schemas.errors import refuse, shown


def check_fresh(path: Path, option: str = "--out") -> None:
    """Makes sure that nothing lies at a path yet.

    Raises:
        SchemaError: something does.
    """
    if path.exists():
        refuse(option, "a path where nothing is yet", shown(str(path)), "nothing is overwritten")
    if not path.parent.is_dir():
        refuse(option, "in a folder that exists", shown(str(path)))


@contextmanager
def fresh_file(path: Path, option: str = "--out") -> Iterator[IO[bytes]]:
    """A file to write that appears under its name when all is written, and not at all before.

    Raises:
        SchemaError: something lies there already, also when it came to lie there meanwhile.
    """
    check_fresh(path, option)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(aside, path)  # a rename would replace what came meanwhile
        except FileExistsError:
            check_fresh(path, option)
    finally:
        aside.unlink(missing_ok=True)


def put_file(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all, in the place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
