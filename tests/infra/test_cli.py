"""The command line: help, exit codes, JSON, and that it loads little."""

import json
import subprocess
import sys
from pathlib import Path

import aiokafka.errors
import pytest
from typer.testing import CliRunner

from infra import errors, status
from infra.cli.app import app
from infra.cli.common import Exit
from infra.decoding import Filter, one_line, shorten
from streams.admin import TopicError

runner = CliRunner()
NOBODY = {"GRINDSTONE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
COMMANDS = (
    "demo",
    "up",
    "down",
    "run",
    "status",
    "topics",
    "tail",
    "models",
    "verify",
    "replay",
    "backtest",
    "rewards",
    "bootstrap",
    "sql",
)


def test_help_names_every_command_and_the_exit_codes() -> None:
    text = runner.invoke(app, ["--help"], env={"COLUMNS": "160"}).output
    for command in COMMANDS:
        assert command in text
    assert "Exit codes" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == Exit.OK
    assert "Usage" in result.output


def test_wrong_usage_exits_2() -> None:
    assert runner.invoke(app, ["run", "nothing"]).exit_code == Exit.USAGE
    assert runner.invoke(app, ["demo", "--seed", "-1"]).exit_code == Exit.USAGE
    assert runner.invoke(app, ["tail", "models", "--filter", "x"]).exit_code == Exit.USAGE


@pytest.mark.parametrize("command", [["status"], ["demo"], ["up"], ["verify"], ["run", "game"]])
def test_bad_settings_exit_2_with_the_fields_path(command: list[str]) -> None:
    result = runner.invoke(app, command, env={"GRINDSTONE_PARTITIONS": "many"})
    assert result.exit_code == Exit.USAGE
    assert "$.partitions must be int; got 'many'" in result.stderr


def test_an_unknown_game_exits_2_before_anything_starts() -> None:
    result = runner.invoke(app, ["demo", "--game", "chess"])
    assert result.exit_code == Exit.USAGE
    assert "$.game must be" in result.stderr


@pytest.mark.parametrize(
    "command", [["status"], ["topics"], ["models"], ["tail", "models"], ["verify"]]
)
def test_no_broker_exits_3(command: list[str]) -> None:
    result = runner.invoke(app, command, env=NOBODY)
    assert result.exit_code == Exit.NO_BROKER, result.output
    assert "broker cannot be reached" in result.stderr


def test_run_without_a_broker_exits_3() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "run", "ticker"],
        env={**NOBODY, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == Exit.NO_BROKER, done.stderr
    assert '"no broker answers"' in done.stderr


def test_errors_that_speak_for_themselves_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gather(_: object) -> None:
        what = "topic models must have 1 partitions; got 3"
        raise TopicError(what)

    monkeypatch.setattr(status, "gather", gather)
    result = runner.invoke(app, ["status"])
    assert result.exit_code == Exit.FAILED
    assert result.stderr == "grindstone: topic models must have 1 partitions; got 3\n"


def test_every_error_that_is_known_by_name_exists() -> None:
    folders = [f for f in Path(__file__).parents[2].iterdir() if not f.name.startswith(".")]
    ours = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    for name in errors.SPEAKING | errors.NO_BROKER:
        assert f"class {name}(" in ours or hasattr(aiokafka.errors, name), name


def test_help_loads_neither_torch_nor_kafka() -> None:
    code = (
        "import sys, infra.cli.app, infra.processes\n"
        "print([m for m in ('torch', 'faust', 'aiokafka', 'onnxruntime', 'matplotlib', 'magent2',"
        " 'duckdb', 'pyarrow')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_json_of_status_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gather(_: object) -> dict[str, object]:
        return {"decisions": 3, "champion": None}

    monkeypatch.setattr(status, "gather", gather)
    result = runner.invoke(app, ["status", "--json"])
    assert result.exit_code == Exit.OK
    assert json.loads(result.stdout) == {"decisions": 3, "champion": None}


def test_down_when_nothing_is_up(tmp_path: Path) -> None:
    result = runner.invoke(app, ["down"], env={"GRINDSTONE_DATA_DIR": str(tmp_path)})
    assert result.exit_code == Exit.OK
    assert "nothing was up" in result.output


def test_filter_goes_into_what_a_field_holds() -> None:
    plain = {"type": "outcome", "facts": {"kills": 1.0}, "success": True, "note": None}
    assert Filter.parse("facts.kills=1.0").accepts(plain)
    assert Filter.parse("success=true").accepts(plain)
    assert Filter.parse("note=none").accepts(plain)
    assert not Filter.parse("facts.deaths=1.0").accepts(plain)
    assert Filter.parse("type!=decision").accepts(plain)


def test_one_line_shows_sizes_of_vectors_and_leaves_out_what_is_not_set() -> None:
    plain = {"type": "decision", "observation": b"1234", "legal": None, "facts": {"hp": 2}}
    assert one_line(plain) == 'decision observation=<4 bytes> facts={"hp":2}'
    assert shorten([b"12"]) == ["<2 bytes>"]
