"""Settings of every process: one frozen struct from a TOML file and the environment.

The environment wins over the file. A field's variable is its path in capitals behind
`GRINDSTONE_`: `kafka.bootstrap_servers` is `GRINDSTONE_KAFKA_BOOTSTRAP_SERVERS`. Only this module
reads the environment; everything else is handed what it needs.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from schemas.database import DatabaseSettings
from schemas.errors import SchemaError, from_msgspec, refuse, shown
from schemas.game import Game, load_game
from schemas.kafka import KafkaSettings
from schemas.topics import Topics

PREFIX = "GRINDSTONE_"
CONFIG_VARIABLE = "GRINDSTONE_CONFIG"
GAMES_DIR = Path(__file__).resolve().parent.parent / "games"

# These reach a process beside its settings.
OTHER_VARIABLES = frozenset({"GRINDSTONE_CONFIG", "GRINDSTONE_PARENT_PID"})
SETUP_VARIABLES = frozenset(
    "GRINDSTONE_" + name
    for name in (
        "BROKER",
        "DATABASE",
        "DEBIAN_MIRROR",
        "KAFKA_PORT",
        "PYTHON",
        "TEST_BOOTSTRAP",
        "TEST_DATABASE",
        "TORCH_INDEX",
    )
)
"""Read by set-up, Compose, tests, the local broker and database, not by a process."""

_SECRET = ("password", "master_key")

Positive = Annotated[int, Meta(ge=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
TopicPrefix = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]*$", max_length=100)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts: an unknown field is a misspelt one."""


class Rates(_Part, frozen=True, kw_only=True):
    """How fast the game goes; None leaves it as the game's description says."""

    worlds: Positive | None = None
    """Matches that the game process plays at a time."""
    decisions_per_second: PositiveFloat | None = None
    """The game holds itself to this, so that learning has the rest of the machine."""
    epsilon: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Share of decisions that are drawn at random among the legal actions."""


class Restarts(_Part, frozen=True, kw_only=True):
    """When the supervisor gives a process up."""

    max_deaths: Positive = 5
    within_s: PositiveFloat = 30.0
    backoff_s: PositiveFloat = 0.2
    backoff_max_s: PositiveFloat = 5.0


class Privacy(_Part, frozen=True, kw_only=True):
    """Where players' keys are; needed by games that have human players."""

    keys_dir: str | None = None
    """None: `keys` below `data_dir`."""
    master_key: str | None = None
    """64 hex digits; None: the file `master.key` of the folder."""


class Settings(_Part, frozen=True, kw_only=True):
    """Everything a process needs to know."""

    kafka: KafkaSettings = KafkaSettings()
    timescale: DatabaseSettings = DatabaseSettings()
    """The database of the sink."""
    sink: Literal["parquet", "timescale"] = "parquet"
    """Where experience is stored: Parquet windows, or those and a database besides."""
    topics_prefix: TopicPrefix = ""
    partitions: Annotated[int, Meta(ge=1, le=1024)] = 4
    data_dir: str = ".grindstone/data"
    """Windows, models, checkpoints and state live below it."""
    game: str = "battle"
    """A game's name below `games/`, or the path of its description."""
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    rates: Rates = Rates()
    restarts: Restarts = Restarts()
    privacy: Privacy = Privacy()

    @property
    def topics(self) -> Topics:
        """The names of the topics under the prefix."""
        return Topics(self.topics_prefix)

    @property
    def windows_dir(self) -> Path:
        """Parquet windows, the archive's root."""
        return Path(self.data_dir) / "windows"

    @property
    def backtests_dir(self) -> Path:
        """A folder per backtest: re-scored windows, manifest and report."""
        return Path(self.data_dir) / "backtests"

    @property
    def keys_dir(self) -> Path:
        """Players' keys; keep it out of the backups of the data."""
        return Path(self.privacy.keys_dir or Path(self.data_dir) / "keys")

    @property
    def models_dir(self) -> Path:
        """A folder per model version."""
        return Path(self.data_dir) / "models"

    @property
    def checkpoints_dir(self) -> Path:
        """What the learner resumes from."""
        return Path(self.data_dir) / "checkpoints"

    @property
    def state_dir(self) -> Path:
        """Offsets that processes keep in files of their own."""
        return Path(self.data_dir) / "state"

    @property
    def run_dir(self) -> Path:
        """Logs and the list of processes of `up`."""
        return Path(self.data_dir) / "run"

    @property
    def game_path(self) -> Path:
        """The file of the game's description."""
        given = Path(self.game)
        return given if given.suffix == ".toml" else GAMES_DIR / self.game / f"{self.game}.toml"

    def load_game(self) -> Game:
        """The game's description.

        Raises:
            SchemaError: there is no such game, or its description breaks a rule.
        """
        if not self.game_path.is_file():
            known = ", ".join(sorted(p.stem for p in GAMES_DIR.glob("*/*.toml"))) or "none"
            rule = f"a description's path or the name of a game ({known})"
            refuse("$.game", rule, shown(self.game))
        game = load_game(self.game_path)
        rates = msgspec.structs.asdict(self.rates)
        given = {name: value for name, value in rates.items() if value is not None}
        return msgspec.structs.replace(game, settings={**game.settings, **given})


def load(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from a TOML file, the environment over it, and `overrides` (paths) over both.

    Raises:
        SchemaError: a value breaks a rule, a name is unknown, or the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    config = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    document = _read(config) if config else {}
    variables = _variables()
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES | SETUP_VARIABLES:
            continue
        if name not in variables:
            raise SchemaError(name, "a known setting", "an unknown one", "check the spelling")
        _put(document, variables[name], value)
    for path, value in (overrides or {}).items():
        if value is not None:
            _put(document, tuple(path.split(".")), value)
    return _convert(document)


def to_environ(settings: Settings) -> dict[str, str]:
    """The settings as variables, for a child process; `load` reads the same back."""
    document = msgspec.to_builtins(settings)
    found = {}
    for name, path in _variables().items():
        value: Any = document
        for step in path:
            value = value[step]
        if value is not None:
            found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def show(settings: Settings) -> dict[str, Any]:
    """The settings as plain values with every password and key hidden."""
    document: dict[str, Any] = msgspec.to_builtins(settings)
    for part in ("kafka", "timescale", "privacy"):
        for name, value in document[part].items():
            if value and any(secret in name for secret in _SECRET):
                document[part][name] = "***"
    return document


def _read(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        refuse("--config", "a file that can be read", str(error))
    except tomllib.TOMLDecodeError as error:
        refuse("$", "a TOML document", str(error), f"in {config}")


def _convert(document: dict[str, Any]) -> Settings:
    for name in document.get("kafka", {}):
        if name not in KafkaSettings.__struct_fields__:
            refuse(f"$.kafka.{name}", "a known field", "an unknown one")
    try:
        return msgspec.convert(document, Settings, strict=False)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, SchemaError):  # a struct's own check, wrapped by msgspec
            raise error.__cause__ from None
        known = from_msgspec(error, document)
        got = "***" if any(name in known.path for name in _SECRET) else known.got
        variable = PREFIX + known.path.removeprefix("$.").replace(".", "_").upper()
        raise SchemaError(known.path, known.rule, got, f"set {variable}") from error


def _put(document: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for step in path[:-1]:
        document = document.setdefault(step, {})
    document[path[-1]] = value


def _variables() -> dict[str, tuple[str, ...]]:
    """Variable name -> path of its field, for every field of `Settings`."""
    return {PREFIX + "_".join(path).upper(): path for path in _paths(Settings)}


def _paths(struct: type[msgspec.Struct], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    hints = get_type_hints(struct)
    found = []
    for name in struct.__struct_fields__:
        part = _struct_in(hints[name])
        found += _paths(part, (*above, name)) if part else [(*above, name)]
    return found


def _struct_in(hint: Any) -> type[msgspec.Struct] | None:
    for option in (hint, *get_args(hint)):
        if isinstance(option, type) and get_origin(option) is None:
            if issubclass(option, msgspec.Struct):
                return option
    return None
