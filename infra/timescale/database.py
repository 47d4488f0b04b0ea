"""The database that a run starts for itself.

    python -m infra.timescale.database start|stop|kill|status|wipe --run-dir .grindstone/data

It is TimescaleDB where Docker answers or `make timescale` was done, else plain PostgreSQL. It takes
connections from this machine only, with a password that is made for it and kept beside its data.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args

import msgspec
import psycopg

from infra.kafka.compose import CHECKOUT, ComposeRunner, docker_answers
from infra.kafka.errors import BrokerError
from infra.kafka.ports import free_ports, is_free
from infra.kafka.server import StateFile, await_answer, command_line, run_command
from infra.timescale.postgres import TREE, PostgresRunner, find_server, has_tree
from schemas.database import DatabaseSettings
from streams.timescale.errors import is_away

START_S = 90.0
USER = DATABASE = "grindstone"
STATE_FILE = "database.json"

Runner = Literal["docker", "tree", "plain"]
"""A container, the Debian tree of `make timescale`, or the PostgreSQL of this machine."""


class DatabaseState(msgspec.Struct, frozen=True):
    """What is kept in the run folder, readable by its owner only."""

    runner: Runner
    port: int
    password: str

    @property
    def settings(self) -> DatabaseSettings:
        """How to reach it."""
        return DatabaseSettings(
            port=self.port, database=DATABASE, user=USER, password=self.password, sslmode="disable"
        )


class LocalDatabase:
    """One database server with its data under ``run_dir/timescale``."""

    def __init__(self, run_dir: Path, runner: Runner | None = None) -> None:
        self._folder = run_dir.resolve() / "timescale"
        self._state_file = StateFile(run_dir.resolve() / STATE_FILE, DatabaseState, "database")
        self._wanted = runner
        self._made: PostgresRunner | None = None

    @property
    def settings(self) -> DatabaseSettings | None:
        """How to reach the database, running or not; None before its first start."""
        state = self._state_file.load()
        return state.settings if state else None

    @property
    def runner(self) -> Runner | None:
        """What runs it; None before its first start."""
        state = self._state_file.load()
        return state.runner if state else None

    def start(self, timeout_s: float = START_S) -> DatabaseSettings:
        """Starts the database, or finds it running; returns once it answers.

        Raises:
            BrokerError: it does not start; the message holds the last lines of its log.
        """
        state = self._state_file.load()
        if state is None or not self._alive(state):
            state = self._choose(state)
            self._state_file.save(state)
            if state.runner == "docker":
                self._compose(state).up()
            else:
                self._postgres(state).launch(state.port, USER, state.password)
        self._await(state, timeout_s)
        return state.settings

    def stop(self) -> None:
        """Ends the database cleanly, if it runs, and keeps its data."""
        state = self._state_file.load()
        if state is not None and self._alive(state):
            self._of(state).stop()

    def kill(self) -> None:
        """Ends the database at once, as a crash would, if it runs, and keeps its data."""
        state = self._state_file.load()
        if state is not None and self._alive(state):
            self._of(state).kill()

    def wipe(self) -> None:
        """Ends the database and removes its data."""
        state = self._state_file.load()
        if state is not None:
            self.kill()
            self._of(state).wipe()
            self._state_file.path.unlink()

    def serving(self) -> bool:
        """Whether the database answers."""
        state = self._state_file.load()
        return state is not None and _refusal(state.settings) is None

    def _choose(self, before: DatabaseState | None) -> DatabaseState:
        if before is not None:
            if is_free(before.port):
                return before
            return msgspec.structs.replace(before, port=free_ports(1)[0])
        runner = self._wanted or choose_runner()
        return DatabaseState(runner, free_ports(1)[0], secrets.token_urlsafe(18))

    def _await(self, state: DatabaseState, timeout_s: float) -> None:
        runner = self._of(state)
        await_answer(lambda: _refusal(state.settings), runner, "the database", timeout_s)
        if isinstance(runner, PostgresRunner):
            runner.note()

    def _alive(self, state: DatabaseState) -> bool:
        return self._of(state).alive()

    def _of(self, state: DatabaseState) -> PostgresRunner | ComposeRunner:
        return self._compose(state) if state.runner == "docker" else self._postgres(state)

    def _compose(self, state: DatabaseState) -> ComposeRunner:
        variables = {
            "GRINDSTONE_TIMESCALE_PORT": str(state.port),
            "GRINDSTONE_TIMESCALE_PASSWORD": state.password,
        }
        return ComposeRunner(self._folder, "timescaledb", variables)

    def _postgres(self, state: DatabaseState) -> PostgresRunner:
        if self._made is None:
            tree = TREE if state.runner == "tree" else None
            self._made = PostgresRunner(self._folder, tree)
        return self._made


def choose_runner() -> Runner:
    """What can run a database here, the one with TimescaleDB first.

    Raises:
        BrokerError: nothing can.
    """
    wanted = os.environ.get("GRINDSTONE_DATABASE", "")
    if wanted:
        for runner in get_args(Runner):
            if wanted == runner:
                chosen: Runner = runner
                return chosen
        message = f"GRINDSTONE_DATABASE must be docker, tree or plain; got {wanted!r}"
        raise BrokerError(message)
    if docker_answers():
        return "docker"
    if has_tree() or (os.geteuid() == 0 and _build_tree()):
        return "tree"
    if find_server() is not None:
        return "plain"
    message = (
        "TimescaleDB takes Docker, or a Debian tree that only root can make, or a PostgreSQL of "
        "version 15 or later; there is none of them. Type this, then start again:\n"
        "  sudo make timescale"
    )
    raise BrokerError(message)


def _build_tree() -> bool:
    done = subprocess.run(
        ["bash", "infra/setup/timescale.sh", ".grindstone/timescale/ready-late"],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        check=False,
    )
    return not done.returncode and has_tree()


def _refusal(settings: DatabaseSettings) -> str | None:
    """None when the database takes a login, else what it says; makes the database when absent."""
    try:
        psycopg.connect(**settings.connection()).close()
    except psycopg.OperationalError as error:
        if is_away(error) or "does not exist" not in str(error):
            return str(error).strip()
    else:
        return None
    first = msgspec.structs.replace(settings, database="postgres")
    try:
        with psycopg.connect(**first.connection(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}".encode())
    except psycopg.Error as error:
        return str(error).strip()
    return None


def main(arguments: list[str] | None = None) -> int:
    """Runs one command on the database of a run folder; returns the exit status."""
    options = command_line("infra.timescale.database", __doc__).parse_args(arguments)
    return run_command(
        options.command,
        lambda: LocalDatabase(options.run_dir),
        lambda database: database.settings.where if database.settings else None,
    )


if __name__ == "__main__":
    raise SystemExit(main())
