"""What all commands share: exit codes, settings, errors in one line, JSON."""

import functools
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import msgspec
import typer

from infra import logs, settings
from infra.errors import is_no_broker, speaks_for_itself
from infra.settings import Settings
from schemas.database import DatabaseSettings
from schemas.errors import SchemaError
from schemas.kafka import KafkaSettings

P = ParamSpec("P")
R = TypeVar("R")


class Exit(IntEnum):
    """What the exit codes of `grindstone` say."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_BROKER = 3
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit codes: 0 all is well; 1 a verdict or verification failed, or a process could not be "
    "kept alive; 2 wrong usage or settings; 3 the broker cannot be reached; 130 interrupted."
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
RevealOption = Annotated[
    bool, typer.Option("--reveal", help="Players' text in clear; needs the key store.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file of settings; GRINDSTONE_* variables win over it."),
]


def read_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """The settings of this command."""
    return settings.load(config, overrides=overrides)


def find_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """The settings of a command that looks at a running system.

    Where no broker or database is named, it is the one that `grindstone up` keeps beside the data.
    """
    found = _find_database(read_settings(config, **overrides))
    if found.kafka.bootstrap_servers != KafkaSettings().bootstrap_servers:
        return found
    data = Path(found.data_dir)
    for folder in (data, data.parent):
        if (folder / "broker.json").exists():
            from infra.kafka.broker import LocalBroker

            address = LocalBroker(folder).bootstrap
            if address is not None:
                kafka = msgspec.structs.replace(found.kafka, bootstrap_servers=address)
                return msgspec.structs.replace(found, kafka=kafka)
    return found


def _find_database(found: Settings) -> Settings:
    folder = Path(found.data_dir)
    if found.timescale != DatabaseSettings() or not (folder / "database.json").exists():
        return found
    from infra.timescale.database import LocalDatabase

    where = LocalDatabase(folder).settings or found.timescale
    return msgspec.structs.replace(found, timescale=where, sink="timescale")


def fail(message: str, code: Exit) -> NoReturn:
    """Ends the command with one line on stderr."""
    print(f"grindstone: {message}", file=sys.stderr)
    raise typer.Exit(int(code))


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """The command with known errors turned into one line and an exit code."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except SchemaError as error:
            fail(str(error), Exit.USAGE)
        except KeyboardInterrupt:
            fail("interrupted", Exit.INTERRUPTED)
        except Exception as error:
            if is_no_broker(error):
                fail(f"the broker cannot be reached: {error}", Exit.NO_BROKER)
            if speaks_for_itself(error):
                fail(str(error), Exit.FAILED)
            raise

    return wrapper


def print_json(document: object) -> None:
    """One JSON document on a line of its own."""
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()


def configure_logs(process: str, level: str) -> None:
    """Logs of this command go to stderr."""
    logs.configure(process, level)


def show(renderable: Any) -> None:
    """A table and such for people; a pipe has no width, so that nothing is cut off there."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(renderable, markup=False, highlight=False)
