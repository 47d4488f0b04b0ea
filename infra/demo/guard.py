"""Ends the broker and database of a run when whoever started it is gone, however it went.

    python -m infra.demo.guard RUN_DIR        (stdin: a pipe that its parent holds open)

Their processes cannot ask the kernel to die with their parent, as our own do.
"""

import subprocess
import sys
from pathlib import Path
from typing import Self

from infra.kafka.broker import LocalBroker


class Guard:
    """Holds the pipe; leaving the context, or dying, ends the servers of `run_dir`."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "infra.demo.guard", str(self._run_dir)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is not for it
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(30)


def main() -> None:
    """Waits for the end of stdin, then ends broker and database."""
    sys.stdin.buffer.read()
    folder = Path(sys.argv[1])
    LocalBroker(folder).kill()
    if (folder / "database.json").exists():
        from infra.timescale.database import LocalDatabase

        LocalDatabase(folder).kill()


if __name__ == "__main__":
    main()
