"""Starts child processes, restarts what dies, and leaves none behind.

Each child leads its own session, so a Ctrl-C in the terminal reaches only the supervisor, and a
stop reaches the child with all that it started. A child that lives in `infra.cli` asks the kernel
to be killed with its parent (`die_with_parent`), so that even a SIGKILL of the supervisor leaves
nothing.
"""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from infra import logs

log = logs.get(__name__)

PARENT_VARIABLE = "GRINDSTONE_PARENT_PID"
EXIT_NO_BROKER = 3
"""Exit code of a child that cannot reach the broker: it waits, it is not broken."""

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LAST_LINES = 15
LAST_LINES_BYTES = 16_384

State = Literal["starting", "running", "waiting", "stopped", "failed"]


class SupervisorError(Exception):
    """A child cannot be kept alive."""


class CrashLoop(SupervisorError):
    """A child died too often; the message ends with the last lines of its log."""

    def __init__(self, name: str, why: str, code: int, tail: str) -> None:
        self.name = name
        self.code = code
        super().__init__(
            f"process {name} {why}, last with {describe(code)}; the last lines of its log:\n{tail}"
        )


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a dead child is started again, and when it is given up."""

    max_deaths: int = 5
    within_s: float = 30.0
    backoff_s: float = 0.2
    backoff_max_s: float = 5.0
    no_broker_patience_s: float = 120.0
    """How long a child may go on dying because the broker does not answer."""


class ProcessSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to start: a name, its command and what is added to the environment."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = {}


class Ledger:
    """The deaths of one child: decides between a delay and giving up. It holds no clock."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._deaths: deque[float] = deque()
        self._in_row = 0
        self._no_broker_since: float | None = None

    def on_death(self, now: float, lived_s: float, code: int) -> float | None:
        """Seconds to wait before the next start, or None when the child is given up."""
        policy = self._policy
        self._in_row = 1 if lived_s > policy.within_s else self._in_row + 1
        delay = min(policy.backoff_s * 2.0 ** (self._in_row - 1), policy.backoff_max_s)
        if code == EXIT_NO_BROKER:
            since = self._no_broker_since if self._no_broker_since is not None else now
            self._no_broker_since = since
            return delay if now - since <= policy.no_broker_patience_s else None
        self._no_broker_since = None
        self._deaths.append(now)
        while self._deaths and now - self._deaths[0] > policy.within_s:
            self._deaths.popleft()
        return None if len(self._deaths) >= policy.max_deaths else delay


class Child(msgspec.Struct):
    """One supervised process as it stands now."""

    spec: ProcessSpec
    log_path: Path
    state: State = "starting"
    pid: int | None = None
    started_at: float = 0.0
    n_starts: int = 0
    last_code: int | None = None


def describe(code: int) -> str:
    """An exit code in words: `exit code 1` or `signal SIGKILL`."""
    if code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def last_lines(path: Path, n_lines: int = LAST_LINES) -> str:
    """The last lines of a log file; says so when it is empty or missing."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_LINES_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return f"(no log at {path})"
    lines = text.splitlines()[-n_lines:]
    return "\n".join(lines) if lines else f"(nothing in {path})"


def die_with_parent(environ: Mapping[str, str] = os.environ) -> None:
    """Has the kernel kill this process when its supervisor dies, however it dies.

    Does nothing when no supervisor started this process.
    """
    parent = environ.get(PARENT_VARIABLE)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the call above: then no signal comes.
    if os.getppid() != int(parent):
        sys.exit(1)


class Supervisor:
    """Keeps a set of processes alive inside one event loop.

    `on_change` is called after each start, death and stop.
    """

    def __init__(
        self,
        run_dir: Path,
        policy: RestartPolicy | None = None,
        on_change: Callable[[Child], None] | None = None,
    ) -> None:
        self._logs = run_dir / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._policy = policy or RestartPolicy()
        self._on_change = on_change
        self._children: dict[str, Child] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[str] = set()
        self._given_up = asyncio.Event()
        self._failure: CrashLoop | None = None

    @property
    def children(self) -> list[Child]:
        """All children in the order they were added."""
        return list(self._children.values())

    async def add(self, spec: ProcessSpec) -> Child:
        """Starts one child and keeps it alive from here on."""
        if spec.name in self._children:
            msg = f"process must be a new name; got {spec.name!r}"
            raise SupervisorError(msg)
        child = Child(spec=spec, log_path=self._logs / f"{spec.name}.log")
        self._children[spec.name] = child
        await self._spawn(child)
        self._keepers[spec.name] = asyncio.create_task(self._keep(child), name=spec.name)
        return child

    async def failed(self) -> None:
        """Waits until a child is given up, and raises its `CrashLoop`."""
        await self._given_up.wait()
        if self._failure is not None:
            raise self._failure

    def kill(self, name: str) -> int | None:
        """SIGKILLs one child with all that it started, as a chaos run does; returns its pid."""
        process = self._processes.get(name)
        if process is None or process.returncode is not None:
            return None
        _signal_group(process.pid, signal.SIGKILL)
        return process.pid

    async def stop(self, names: Iterable[str] | None = None, within_s: float = 10.0) -> None:
        """Stops the named children (all by default): SIGTERM, and SIGKILL to what is left.

        The SIGKILL comes early enough that this returns within `within_s`.
        """
        chosen = [name for name in (names or list(self._children)) if name in self._children]
        self._stopping.update(chosen)
        for name in chosen:
            process = self._processes.get(name)
            if process is not None and process.returncode is None:
                _signal_group(process.pid, signal.SIGTERM)
        keepers = [self._keepers[name] for name in chosen if name in self._keepers]
        if keepers:
            _, late = await asyncio.wait(keepers, timeout=within_s * 0.85)
            for task in late:
                log.warning("killed at stop", child=task.get_name())
                self.kill(task.get_name())
            if late:
                await asyncio.wait(late, timeout=within_s * 0.15)
        for name in chosen:
            self._sweep(name)

    def _sweep(self, name: str) -> None:
        """Kills what a stopped child may have left in its session."""
        process = self._processes.pop(name, None)
        if process is not None:
            _signal_group(process.pid, signal.SIGKILL)

    async def _spawn(self, child: Child) -> None:
        env = {**os.environ, **child.spec.env, PARENT_VARIABLE: str(os.getpid())}
        with child.log_path.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                *child.spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                start_new_session=True,
            )
        self._processes[child.spec.name] = process
        child.pid, child.state = process.pid, "running"
        child.started_at = time.time()
        child.n_starts += 1
        if child.spec.name in self._stopping:  # the stop came while it was being started
            _signal_group(process.pid, signal.SIGTERM)
        self._changed(child)

    async def _keep(self, child: Child) -> None:
        name, loop = child.spec.name, asyncio.get_running_loop()
        ledger = Ledger(self._policy)
        while True:
            born = loop.time()
            code = await self._processes[name].wait()
            child.last_code, child.pid = code, None
            if name in self._stopping:
                child.state = "stopped"
                self._changed(child)
                return
            # Whatever the dead child had started must not work on beside its successor.
            _signal_group(self._processes[name].pid, signal.SIGKILL)
            delay = ledger.on_death(loop.time(), loop.time() - born, code)
            log.warning("process died", child=name, how=describe(code), restart_in_s=delay)
            child.state = "waiting" if delay is not None else "failed"
            self._changed(child)
            if delay is None:
                self._fail(child, code)
                return
            await self._pause(name, delay)
            if name in self._stopping:
                child.state = "stopped"
                self._changed(child)
                return
            await self._spawn(child)

    async def _pause(self, name: str, delay_s: float) -> None:
        end = asyncio.get_running_loop().time() + delay_s
        while name not in self._stopping and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(min(0.1, delay_s))

    def _fail(self, child: Child, code: int) -> None:
        policy = self._policy
        why = f"died {policy.max_deaths} times in {policy.within_s:.0f} s"
        if code == EXIT_NO_BROKER:
            why = f"found no broker for {policy.no_broker_patience_s:.0f} s"
        tail = last_lines(child.log_path)
        self._failure = self._failure or CrashLoop(child.spec.name, why, code, tail)
        self._given_up.set()

    def _changed(self, child: Child) -> None:
        if self._on_change is not None:
            self._on_change(child)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
