"""Runs the broker once at set-up, so that every later start takes half the time.

A formatted data folder and an archive of the loaded classes are kept. A broker starts without
them too.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from infra.kafka.errors import BrokerError
from infra.kafka.java import CLASSES, FORMATTED, PREPARED, JavaRunner
from infra.kafka.ports import free_ports
from infra.kafka.server import await_answer
from infra.kafka.wire import refusal

START_S = 120.0
ARCHIVE_S = 120.0
"""Writing the archive takes 3 s on an idle machine."""


def prepare() -> None:
    """Makes the formatted folder and the class archive anew.

    Raises:
        BrokerError: The broker does not start or does not end.
    """
    folder = Path(tempfile.mkdtemp(prefix="first-run-", dir=PREPARED))
    archive = folder / "classes.jsa"
    for old in (FORMATTED, CLASSES):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    runner = JavaRunner(folder / "broker", save_classes=archive)
    try:
        port, controller_port = free_ports(2)
        runner.make_folder(port, controller_port)
        shutil.copytree(folder / "broker" / "data", folder / "formatted")
        runner.launch(port, controller_port)
        await_answer(lambda: refusal("127.0.0.1", port), runner, "the broker", START_S)
        runner.stop(wait_s=ARCHIVE_S)
        (folder / "formatted").rename(FORMATTED)
        if archive.exists():
            archive.rename(CLASSES)
    finally:
        runner.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    try:
        prepare()
    except BrokerError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error
