"""The broker that a run starts for itself.

    python -m infra.kafka.broker start|stop|kill|status|wipe --run-dir .grindstone/broker

Its state lies under the run folder, so two checkouts, or two runs of one, do not meet.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from infra.kafka.compose import ComposeRunner, docker_answers
from infra.kafka.errors import BrokerError
from infra.kafka.java import JavaRunner
from infra.kafka.ports import free_ports, is_free
from infra.kafka.server import StateFile, await_answer, command_line, run_command
from infra.kafka.wire import refusal

HOST = "127.0.0.1"
START_S = 90.0
"""Three seconds as a rule; a killed broker on a machine with a load of 10 was seen to take 20."""

RunnerName = Literal["java", "docker"]


class _Runner(Protocol):
    """What starts and stops the process or the container."""

    def launch(self, port: int, controller_port: int) -> None: ...
    def alive(self) -> bool: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def wipe(self) -> None: ...
    def log_tail(self, lines: int = 12) -> str: ...


class BrokerState(msgspec.Struct, frozen=True):
    """What is kept in the run folder, so that another process can find the broker."""

    runner: RunnerName
    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        """The address that clients are given."""
        return f"{HOST}:{self.port}"


class LocalBroker:
    """One Kafka broker with its data under `run_dir`.

    `port` is for callers who want a certain one, then the environment's GRINDSTONE_KAFKA_PORT;
    otherwise a free one is picked on the first start and kept as long as it stays free. `runner`
    "docker" takes the Compose file, "java" the jars; without it the environment's GRINDSTONE_BROKER
    decides, then whether a Docker engine answers.
    """

    def __init__(
        self, run_dir: Path, *, port: int | None = None, runner: RunnerName | None = None
    ) -> None:
        self.run_dir = run_dir.resolve()
        self._state_file = StateFile(self.run_dir / "broker.json", BrokerState, "broker")
        self._wanted_port = _port_of_environment() if port is None else port
        state = self._state_file.load()
        self._runner_name = runner or (state.runner if state else _default_runner())
        self._runner: _Runner = (
            ComposeRunner(self.run_dir / "kafka")
            if self._runner_name == "docker"
            else JavaRunner(self.run_dir / "kafka")
        )
        self._pinned: BrokerState | None = None

    @property
    def bootstrap(self) -> str | None:
        """The address of the broker, running or not; None before its first start."""
        state = self._state_file.load()
        return state.bootstrap if state else None

    @property
    def pid(self) -> int | None:
        """The broker's process id; None when it does not run or runs in a container."""
        process = self._runner.process() if isinstance(self._runner, JavaRunner) else None
        return process.pid if process else None

    def serving(self) -> bool:
        """Whether the broker answers clients."""
        state = self._state_file.load()
        return state is not None and refusal(HOST, state.port) is None

    def start(self, timeout_s: float = START_S) -> str:
        """Starts the broker, or finds it running; returns its address once it answers clients.

        After a stop or kill by this object it comes back on the same port, for its clients go on
        asking there.

        Raises:
            BrokerError: It does not start; the message holds the last lines of its log.
        """
        state = self._state_file.load()
        if state is not None and self._runner.alive():
            self._await(state, timeout_s)
        else:
            state = self._launch(timeout_s)
        self._pinned = state
        return state.bootstrap

    def stop(self) -> None:
        """Ends the broker cleanly, if it runs, and keeps its data."""
        if self._state_file.load() is not None:
            self._runner.stop()

    def kill(self) -> None:
        """Ends the broker with SIGKILL, if it runs, and keeps its data."""
        if self._state_file.load() is not None:
            self._runner.kill()

    def wipe(self) -> None:
        """Ends the broker and removes its data."""
        if self._state_file.load() is not None:
            self._runner.kill()
            self._runner.wipe()
            self._state_file.path.unlink()
        self._pinned = None

    def _launch(self, timeout_s: float) -> BrokerState:
        attempts_left = 3
        while True:
            attempts_left -= 1
            state = self._choose_ports()
            self._state_file.save(state)
            self._runner.launch(state.port, state.controller_port)
            try:
                self._await(state, timeout_s)
            except BrokerError:
                # another program may have taken a port between our look and the broker's
                taken = not self._runner.alive() and "BindException" in self._runner.log_tail(80)
                if not (taken and attempts_left and self._pinned is None):
                    raise
            else:
                return state

    def _choose_ports(self) -> BrokerState:
        if self._pinned is not None:
            return self._pinned
        before = self._state_file.load()
        kept = before is not None and is_free(before.port) and is_free(before.controller_port)
        if before is not None and kept and self._wanted_port in (None, before.port):
            return before
        port, controller_port = free_ports(2)
        if self._wanted_port is not None:
            port = self._wanted_port
            if not is_free(port):
                message = f"the broker's port must be free; got {port}, which is in use"
                raise BrokerError(message)
        return BrokerState(self._runner_name, port, controller_port)

    def _await(self, state: BrokerState, timeout_s: float) -> None:
        who = f"the broker at {state.bootstrap}"
        await_answer(lambda: refusal(HOST, state.port), self._runner, who, timeout_s)


def _default_runner() -> RunnerName:
    wanted = os.environ.get("GRINDSTONE_BROKER", "")
    if wanted in ("java", "docker"):
        return "java" if wanted == "java" else "docker"
    if wanted:
        message = f"GRINDSTONE_BROKER must be java or docker; got {wanted!r}"
        raise BrokerError(message)
    return "docker" if docker_answers() else "java"


def _port_of_environment() -> int | None:
    wanted = os.environ.get("GRINDSTONE_KAFKA_PORT", "")
    if not wanted:
        return None
    if not wanted.isdecimal() or not 1 <= int(wanted) <= 65_535:
        message = f"GRINDSTONE_KAFKA_PORT must be a port from 1 to 65535; got {wanted!r}"
        raise BrokerError(message)
    return int(wanted)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command on the broker of a run folder; returns the exit status."""
    parser = command_line("infra.kafka.broker", __doc__)
    parser.add_argument("--port", type=int, default=None, help="a free one when left out")
    options = parser.parse_args(arguments)
    return run_command(
        options.command,
        lambda: LocalBroker(options.run_dir, port=options.port),
        lambda broker: broker.bootstrap,
    )


if __name__ == "__main__":
    raise SystemExit(main())
