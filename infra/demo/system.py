"""The system of one run: its own broker, its topics and every process, in one folder."""

import asyncio
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from infra import logs
from infra.demo.guard import Guard
from infra.kafka.broker import LocalBroker
from infra.processes import ensure_topics, wanted
from infra.settings import Settings, to_environ
from infra.status import write_processes
from infra.supervisor import Child, ProcessSpec, RestartPolicy, Supervisor

if TYPE_CHECKING:
    from infra.timescale.database import LocalDatabase

log = logs.get(__name__)

STOP_S = 8.0
"""For all processes; what is left of the ten seconds of a Ctrl-C is the broker's."""


class BusyError(Exception):
    """Another run uses the folder."""


class System:
    """Starts and stops a whole Grindstone below `folder`; `settings` are those of the processes."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        wipe: bool,
        own_broker: bool = True,
        own_database: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self._wipe = wipe
        self._own_broker = own_broker
        self._own_database = own_database
        self._held = ExitStack()
        self._lock: IO[str] | None = None
        self.settings = settings
        self.broker: LocalBroker | None = None
        self.database: LocalDatabase | None = None
        policy = msgspec.structs.asdict(settings.restarts)
        self.supervisor: Supervisor  # made by `open`, once the folder is ours
        self._policy = RestartPolicy(**policy)
        self.restarts: list[tuple[float, str]] = []
        self.helpers: dict[int, str] = {}
        """Processes beside the supervised ones that count as the run's own."""

    async def open(self) -> None:
        """Takes the folder, starts broker and database and makes the topics.

        Raises:
            BusyError: another run uses the folder.
            BrokerError: the broker or the database does not start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_folder()
        if self._wipe:
            shutil.rmtree(self.settings.data_dir, ignore_errors=True)
        self.supervisor = Supervisor(self.settings.run_dir, self._policy, self._changed)
        if self._own_broker or self._own_database:
            self._held.enter_context(Guard(self.folder))
        if self._own_broker:
            await self._open_broker()
        if self._own_database:
            await self._open_database()
        await ensure_topics(self.settings)

    async def _open_broker(self) -> None:
        self.broker = broker = LocalBroker(self.folder)
        if self._wipe:
            await asyncio.to_thread(broker.wipe)
        address = await asyncio.to_thread(broker.start)
        kafka = msgspec.structs.replace(self.settings.kafka, bootstrap_servers=address)
        self.settings = msgspec.structs.replace(self.settings, kafka=kafka)

    async def _open_database(self) -> None:
        from infra.timescale.database import LocalDatabase

        self.database = database = LocalDatabase(self.folder)
        if self._wipe:
            await asyncio.to_thread(database.wipe)
        found = await asyncio.to_thread(database.start)
        found = msgspec.structs.replace(found, keep_days=self.settings.timescale.keep_days)
        self.settings = msgspec.structs.replace(self.settings, timescale=found, sink="timescale")
        log.info("database", runner=database.runner, where=found.where)

    async def start(self, names: Iterable[str] | None = None) -> None:
        """Starts processes in the order given; by default all that the settings want."""
        environ = to_environ(self.settings)
        for name in wanted(self.settings) if names is None else names:
            argv = (sys.executable, "-m", "infra.processes", name)
            await self.supervisor.add(ProcessSpec(name=name, argv=argv, env=environ))

    async def stop(self, names: Iterable[str] | None = None) -> None:
        """Stops processes and waits until they are gone."""
        await self.supervisor.stop(names, STOP_S)

    async def close(self) -> None:
        """Stops everything and leaves no process behind."""
        try:
            if hasattr(self, "supervisor"):
                await self.stop()
        finally:
            if self.broker is not None:
                # What is wiped next time needs no clean end; what is kept starts faster after one.
                await asyncio.to_thread(self.broker.kill if self._wipe else self.broker.stop)
            if self.database is not None:
                await asyncio.to_thread(self.database.kill if self._wipe else self.database.stop)
            self._held.close()
            if self._lock is not None:
                self._lock.close()

    def leaders(self) -> dict[int, str]:
        """Leaders of the sessions that belong to this run, this process, and their names."""
        found = {os.getpid(): "demo", **self.helpers}
        for child in self.supervisor.children:
            if child.pid is not None:
                found[child.pid] = child.spec.name
        broker = self.broker.pid if self.broker is not None else None
        if broker is not None:
            found[broker] = "broker"
        return found

    def states(self) -> dict[str, str]:
        """Process -> its state, the broker first."""
        alive = self.broker is not None and self.broker.pid is not None
        states = {"broker": "running" if alive else "waiting"}
        states.update({child.spec.name: child.state for child in self.supervisor.children})
        return states

    def _take_folder(self) -> None:
        self._lock = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"{self.folder} must be free; another run uses it: wait for it, or stop it"
            raise BusyError(msg) from None

    def _changed(self, child: Child) -> None:
        if child.state == "waiting":
            self.restarts.append((time.time(), child.spec.name))
        write_processes(
            self.settings.run_dir,
            [
                {
                    "name": c.spec.name,
                    "state": c.state,
                    "pid": c.pid,
                    "n_starts": c.n_starts,
                    "log": str(c.log_path),
                }
                for c in self.supervisor.children
            ],
        )
