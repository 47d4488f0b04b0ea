"""`grindstone up` and `down`: every process, kept alive in the foreground or in the background."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from infra import logs
from infra.demo.system import System
from infra.interrupt import Interrupted, interruptible
from infra.kafka.broker import LocalBroker
from infra.kafka.process import ProcessName
from infra.settings import Settings, to_environ
from infra.supervisor import SupervisorError

log = logs.get(__name__)

STARTED_S = 60.0
DOWN_S = 15.0
PID_FILE = "up.json"
OK, FAILED, INTERRUPTED = 0, 1, 130


async def run_up(settings: Settings, own_broker: bool, own_database: bool = False) -> int:
    """Runs every process until a signal comes or one cannot be kept alive.

    The data of broker and database and all that was learned stay for the next time.
    """
    folder = Path(settings.data_dir)
    system = System(settings, folder, False, own_broker=own_broker, own_database=own_database)
    mark = settings.run_dir / PID_FILE
    try:
        async with interruptible():
            await system.open()
            await system.start()
            name = ProcessName.of(os.getpid())
            mark.write_bytes(msgspec.json.encode(name))
            where = system.settings.kafka.bootstrap_servers
            print(f"grindstone: {len(system.supervisor.children)} processes run on {where}")
            if system.database is not None:
                print(f"grindstone: database {system.settings.timescale.where}", flush=True)
            await system.supervisor.failed()
    except Interrupted:
        return INTERRUPTED
    except SupervisorError as error:
        print(f"grindstone: {error}", file=sys.stderr)
        return FAILED
    finally:
        await system.close()
        mark.unlink(missing_ok=True)
    return OK


def detach_up(settings: Settings, own_broker: bool, own_database: bool = False) -> int:
    """Starts `up` in the background and returns when its processes run."""
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    mark, out = settings.run_dir / PID_FILE, settings.run_dir / "up.log"
    with out.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "up", "--broker" if own_broker else "--no-broker"]
            + (["--timescale"] if own_database else []),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **to_environ(settings)},
            start_new_session=True,
        )
    end = time.monotonic() + STARTED_S
    while time.monotonic() < end and process.poll() is None:
        if mark.exists():
            print(f"grindstone: up in the background; log: {out}")
            return OK
        time.sleep(0.1)
    process.terminate()
    print(f"grindstone: it did not start; the end of {out} says why", file=sys.stderr)
    return FAILED


def take_down(settings: Settings) -> int:
    """Stops what `up` started, with its broker and its database."""
    mark = settings.run_dir / PID_FILE
    try:
        name = msgspec.json.decode(mark.read_bytes(), type=ProcessName)
    except (FileNotFoundError, msgspec.DecodeError):
        name = None
    stopped = name is None or name.send(signal.SIGTERM, DOWN_S)
    folder = Path(settings.data_dir)
    LocalBroker(folder).stop()
    if (folder / "database.json").exists():
        from infra.timescale.database import LocalDatabase

        LocalDatabase(folder).stop()
    if name is None:
        print("grindstone: nothing was up")
    elif not stopped:
        print(f"grindstone: process {name.pid} must end; got no end in {DOWN_S:.0f} s")
        return FAILED
    else:
        print("grindstone: down")
    return OK
