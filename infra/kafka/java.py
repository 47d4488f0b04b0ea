"""A Kafka broker as a Java process of this machine, from the jars that the set-up fetched."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

from infra.kafka.errors import BrokerError
from infra.kafka.server import ServerProcess

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
PREPARED = CHECKOUT / ".grindstone" / "kafka"
JARS = PREPARED / "lib"
FORMATTED = PREPARED / "formatted"
"""A formatted data folder: two files that name a cluster of one, alike for all that never meet."""
CLASSES = PREPARED / "classes.jsa"
"""The broker's classes, checked and laid out for the JVM: halves the CPU time of a start."""

MEMORY = (
    "-Xms128m",
    "-Xmx384m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:MaxDirectMemorySize=96m",
    "-XX:MaxMetaspaceSize=160m",
    "-XX:ReservedCodeCacheSize=96m",
    "-XX:+ExitOnOutOfMemoryError",
)
"""Sized for one broker beside a learner: 190 MB at rest, 345 MB under load."""

QUICK = "-XX:TieredStopAtLevel=1"
"""Compiles quickly and no more. In a demo's first minute the optimising compiler took 40 % of the
broker's processor time (11.8 of 29 s) and made the requests no cheaper: the learner needs it more.
"""

CLASS_PATH = (
    "-Djava.awt.headless=true",
    f"-Dlog4j2.configurationFile={(HERE / 'log4j2.properties').as_uri()}",
    "-cp",
    f"{JARS}/*",
)

STOP_S = 20.0
"""A clean stop writes its snapshots first: 1 s as a rule, more on a loaded machine."""


class JavaRunner(ServerProcess):
    """One broker process on one folder, which another program may have started."""

    def __init__(self, folder: Path, *, save_classes: Path | None = None) -> None:
        super().__init__(folder, "broker.log")
        self._save_classes = save_classes

    def launch(self, port: int, controller_port: int) -> None:
        """Starts the broker on the folder's data, which it makes when there is none.

        Raises:
            BrokerError: There is no Java, there are no jars, or the folder could not be formatted.
        """
        properties = self.make_folder(port, controller_port)
        self._note(self._spawn([*self._java(), "kafka.Kafka", str(properties)]))

    def make_folder(self, port: int, controller_port: int) -> Path:
        """Makes the broker's folder ready, if it is not, and returns its properties file."""
        self._fetch_jars()
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self._write_properties(port, controller_port)
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(properties)
        return properties

    def stop(self, wait_s: float = STOP_S) -> None:
        """Ends the process cleanly, or by force when it does not end in time."""
        name = self.process()
        if name is not None and not name.send(signal.SIGTERM, wait_s):
            self.kill()
        self._reap()

    def kill(self) -> None:
        """Ends the process as a crash would."""
        name = self.process()
        if name is not None and not name.send(signal.SIGKILL, STOP_S):
            message = f"the broker (process {name.pid}) did not end within {STOP_S:.0f} s"
            raise BrokerError(message)
        self._reap()

    def _java(self) -> list[str]:
        classes = []
        if self._save_classes is not None:
            classes = [f"-XX:ArchiveClassesAtExit={self._save_classes}", "-Xlog:cds=off"]
        elif CLASSES.exists():
            classes = [f"-XX:SharedArchiveFile={CLASSES}", "-Xlog:cds=off"]
        return ["java", QUICK, *MEMORY, *classes, *CLASS_PATH]

    def _write_properties(self, port: int, controller_port: int) -> Path:
        text = (HERE / "server.properties").read_text("utf-8")
        for word, value in {
            "@PORT@": str(port),
            "@CONTROLLER_PORT@": str(controller_port),
            "@DATA@": str(self.folder / "data"),
        }.items():
            text = text.replace(word, value)
        path = self.folder / "server.properties"
        path.write_text(text, "utf-8")
        return path

    def _format(self, properties: Path) -> None:
        data = self.folder / "data"
        # what a format that was cut short left behind
        shutil.rmtree(data, ignore_errors=True)
        if FORMATTED.exists():
            aside = self.folder / "data.part"
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(FORMATTED, aside)
            aside.rename(data)
            return
        # Kafka's own form of an id; the x keeps it from looking like an option
        cluster = "x" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        words = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c"]
        self._prepare(
            # this JVM lives a second: compiling well is not worth its while
            ["java", QUICK, *MEMORY, *CLASS_PATH, *words, str(properties)],
            "the broker's folder could not be made ready",
        )

    def _fetch_jars(self) -> None:
        if shutil.which("java") is not None and any(JARS.glob("kafka_*.jar")):
            return
        # Docker answered at set-up and does no longer, or nothing was set up yet
        stamp = PREPARED / "ready-late"
        done = subprocess.run(
            ["bash", "infra/setup/kafka.sh", str(stamp)],
            cwd=CHECKOUT,
            env={**os.environ, "GRINDSTONE_BROKER": "java"},
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            message = "Kafka's jars must be in the checkout; got none: run `make setup`"
            raise BrokerError(message)
