"""What README and docs say exists: links, settings, fields, events, commands, code."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import typer.main

from agents.rewards.fold import RewardsFold
from infra import settings
from infra.cli.app import app
from infra.processes import PROCESSES
from infra.settings import OTHER_VARIABLES, SETUP_VARIABLES
from schemas import game as game_module
from schemas.codec import BadEvent, decode_record
from schemas.events import ActorEvent, Event
from schemas.game import Game, check_against_game, parse_game
from schemas.records import Experience, decode_rows
from schemas.rewards import Reward
from schemas.topics import Topics
from schemas.upcast import STEPS
from streams.engine.records import Record
from streams.lane import WriterSettings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
MAX_LINES = 400

LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

SECTIONS = {
    "Game": "Top level",
    "Observation": "observation",
    "Actions": "actions",
    "Reward": "rewards",
    "Domain": "domains",
    "Archetype": "archetypes",
    "Learner": "learners",
    "Gate": "gate",
    "Time": "time",
    "WindowSize": "windows",
    "Privacy": "privacy",
}
"""Struct of the game description -> heading of its table."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def fences(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text("utf-8")) if kind == language]


def section(page: Path, heading: str) -> str:
    text = page.read_text("utf-8")
    match = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##? |\Z)", text, re.M | re.S)
    assert match, f"{page.name} has no section {heading!r}"
    return match[1]


@cache
def anchors(page: Path) -> set[str]:
    """Anchors as GitHub makes them from headings."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.M):
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        n = found.get(name, 0)
        found[name] = n + 1
        names.add(f"{name}-{n}" if n else name)
    return names


def arena() -> Game:
    return parse_game(tomllib.loads(fences(DOCS / "game-description.md", "toml")[0]))


def story() -> list[Event | BadEvent]:
    """The events of docs/events.md in their order."""
    examples = fences(DOCS / "events.md", "json")
    return [event for text in examples for event in decode_record(text.encode())]


@each_page
def test_page_is_not_too_long(page: Path) -> None:
    assert len(page.read_text("utf-8").splitlines()) <= MAX_LINES


@each_page
def test_links_and_anchors_resolve(page: Path) -> None:
    for image, target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        path, _, anchor = target.partition("#")
        if "://" in target or (image and not (page.parent / path).parent.is_dir()):
            continue  # pictures come from a real run; until the first one there is no folder
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), target


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for page in PAGES:
        if page.name != "README.md":
            assert f"]({page.relative_to(ROOT)}" in text, page.name


def test_settings_has_every_variable_and_no_other() -> None:
    known = {*settings._variables(), *OTHER_VARIABLES, *SETUP_VARIABLES}
    text = (DOCS / "settings.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `(GRINDSTONE_[A-Z_]+)`", text, re.M))
    assert listed == known


def test_settings_defaults_are_those_of_the_code() -> None:
    plain = msgspec.to_builtins(settings.Settings())
    text = (DOCS / "settings.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(GRINDSTONE_[A-Z_]+)` \| ([^|]+?) \|", text, re.M))
    for name, path in settings._variables().items():
        value: Any = plain
        for step in path:
            value = value[step]
        said = rows[name].strip("`")
        assert said == {None: "unset", "": "empty"}.get(
            value, f"{value:g}" if isinstance(value, float) else str(value)
        ), name


def test_settings_example_loads(tmp_path: Path) -> None:
    config = tmp_path / "grindstone.toml"
    config.write_text(fences(DOCS / "settings.md", "toml")[0], "utf-8")
    loaded = settings.load(config, environ={"GRINDSTONE_KAFKA_PASSWORD": "secret"})
    assert loaded.partitions == 12
    assert loaded.restarts.max_deaths == 10


def test_game_description_has_every_field_of_every_table() -> None:
    structs = {
        name: struct
        for name, struct in inspect.getmembers(game_module, inspect.isclass)
        if issubclass(struct, msgspec.Struct)
        and struct.__module__ in (game_module.__name__, Reward.__module__)
        and struct.__struct_fields__
    }
    assert set(structs) == set(SECTIONS)
    for name, struct in structs.items():
        text = section(DOCS / "game-description.md", SECTIONS[name])
        listed = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
        assert listed == set(struct.__struct_fields__), name


def test_game_description_example_is_a_game() -> None:
    assert arena().name == "arena"


def test_learner_settings_are_all_explained() -> None:
    text = (DOCS / "learners.md").read_text("utf-8")
    for name in game_module.Learner.__struct_fields__:
        if name not in ("algorithm", "hidden", "channels"):
            assert f"`{name}`" in text or f"{name} =" in text, name


def test_writer_settings_are_all_explained() -> None:
    text = section(DOCS / "events.md", "The event writer")
    for name in WriterSettings.__struct_fields__:
        assert name == "client_id" or f"`{name}`" in text, name


def test_event_examples_decode_and_fit_the_example_game() -> None:
    games = {"arena": arena()}
    for event in story():
        assert not isinstance(event, BadEvent), event.reason
        if isinstance(event, ActorEvent):
            check_against_game(event, games)
    (readme,) = fences(ROOT / "README.md", "json")
    (event,) = decode_record(readme.encode())
    assert isinstance(event, ActorEvent)
    check_against_game(event, games)


def test_every_event_version_has_an_example() -> None:
    text = (DOCS / "events.md").read_text("utf-8")
    for tag in {kind.__struct_config__.tag for kind in get_args(Event)}:
        assert f'"type": "{tag}"' in text, tag
    for tag in STEPS:
        assert f"| `{tag}` | `" in text, tag


def test_rewards_worked_example_holds() -> None:
    examples = fences(DOCS / "events.md", "json")[:5]
    records = []
    for offset, text in enumerate(examples):
        time_ms = msgspec.json.decode(text)["event_time_ms"]
        records.append(Record(0, offset, time_ms, None, text.encode()))
    game = arena()
    effects = RewardsFold(0, {}, {game.name: game}, Topics()).fold(records)
    (output,) = effects.outputs
    row = decode_rows(output.value or b"")[0]
    assert isinstance(row, Experience)
    assert (row.immediate, row.long_term, row.total) == pytest.approx((0.25, -0.1, 0.2))
    assert (row.status, row.terminated) == ("observed", True)
    assert row.settled_time_ms - row.decision_time_ms == 2100


def commands() -> dict[str, Any]:
    """Commands by name, as the click that typer uses has them."""
    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = group.commands
    return found


def command_lines(page: Path) -> list[str]:
    """What pages say to type: `grindstone ...` in code spans and code blocks."""
    text = page.read_text("utf-8")
    spans = re.findall(r"`(grindstone [^`\n]+)`", text)
    blocks = re.findall(r"\.venv/bin/(grindstone [^#|>\n]+)", text)
    return [line.strip() for line in spans + blocks]


@each_page
def test_commands_and_options_exist(page: Path) -> None:
    known_commands = commands()
    for line in command_lines(page):
        words = line.split()[1:]
        if words[0].startswith("-"):
            assert words[0] in ("--help", "-h", "--version"), line
            continue
        assert words[0] in known_commands, line
        command = known_commands[words[0]]
        if words[1:] and words[1] in getattr(command, "commands", {}):
            command = command.commands[words[1]]
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
        for word in words[1:]:
            if re.match(r"--?[a-z]", word):
                assert word in known, line
        if words[0] == "run" and len(words) > 1 and words[1].islower():
            assert words[1] in PROCESSES, line


def test_processes_page_has_every_process_and_command() -> None:
    text = (DOCS / "processes.md").read_text("utf-8")
    for name in PROCESSES:
        assert f"| `{name}` |" in text, name
    for name in commands():
        assert f"| `grindstone {name}" in text, name


def test_topics_page_has_every_topic() -> None:
    text = (DOCS / "topics.md").read_text("utf-8")
    for spec in Topics().specs(4):
        (partitions,) = re.findall(rf"^\| `{spec.name}` \| (\w+) \|", text, re.M)
        assert (partitions == "P") == (spec.partitions == 4), spec.name


@each_page
def test_make_targets_exist(page: Path) -> None:
    rules = re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    targets = {name for rule in rules for name in rule.split()}
    text = page.read_text("utf-8")
    for target in re.findall(r"^ {4}make ([a-z-]+)|`make ([a-z-]+)", text, re.M):
        assert "".join(target) in targets, target


@each_page
def test_python_examples_parse_and_their_imports_exist(page: Path) -> None:
    ours = {"schemas", "streams", "agents", "learners", "games", "infra"}
    for source in fences(page, "python"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ours:
                module = importlib.import_module(node.module or "")
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module}.{name.name}"
