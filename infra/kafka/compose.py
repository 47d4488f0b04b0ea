"""One service of docker-compose.yml (Kafka, the database), where a Docker engine answers."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from infra.kafka.errors import BrokerError

CHECKOUT = Path(__file__).parents[2]
SERVICE = "kafka"


@cache
def docker_answers() -> bool:
    """Whether there is a Docker client with Compose, and an engine behind it that answers."""
    if shutil.which("docker") is None:
        return False
    for question in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(
                question, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        if done.returncode:
            return False
    return True


class ComposeRunner:
    """One Compose project for each folder, so that two checkouts or two runs do not meet."""

    def __init__(
        self, folder: Path, service: str = SERVICE, variables: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._service = service
        self._variables = variables or {}
        name = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=5).hexdigest()
        self._project = f"grindstone-{name}"
        self._port = 0

    def launch(self, port: int, controller_port: int) -> None:
        """Starts the container on its volume; the controller's port stays inside the container."""
        del controller_port
        self._port = port
        self.up()

    def up(self) -> None:
        """Starts the container with the variables as they are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._compose("up", "--detach", "--quiet-pull", self._service)

    def alive(self) -> bool:
        """Whether the container runs; the server in it may not serve yet."""
        return bool(self._compose("ps", "--quiet", "--status", "running", self._service).strip())

    def stop(self) -> None:
        """Stops the container and keeps its volume."""
        self._compose("stop", "--timeout", "20", self._service)

    def kill(self) -> None:
        """Ends the server as a crash would; Docker does not start a killed container again."""
        self._compose("kill", "--signal", "SIGKILL", self._service)

    def wipe(self) -> None:
        """Removes the container, its network and its volume."""
        self._compose("down", "--volumes", "--timeout", "5")
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def log_tail(self, lines: int = 12) -> str:
        """Returns the last lines that the server wrote."""
        words = ("logs", "--no-color", "--no-log-prefix", "--tail", str(lines))
        return self._compose(*words, self._service)

    def _compose(self, *words: str) -> str:
        # Compose reads the whole file for every command, so the port is needed by all of them
        port = {"GRINDSTONE_KAFKA_PORT": str(self._port or 9092)}
        environment = {**os.environ, **port, **self._variables}
        done = subprocess.run(
            ["docker", "compose", "--project-name", self._project]
            + ["--file", str(CHECKOUT / "docker-compose.yml"), *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            message = f"`docker compose {' '.join(words)}` failed: {done.stderr.strip()[-600:]}"
            raise BrokerError(message)
        return done.stdout
