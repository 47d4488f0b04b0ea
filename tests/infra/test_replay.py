"""The command `replay` without a broker: files, summaries and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli.app import app
from infra.cli.common import Exit
from infra.times import parse_duration, parse_time, show_duration, show_time
from schemas.errors import SchemaError
from tests.infra.lake import archive, duels, fold, log_of

runner = CliRunner()


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    archive(fold(log_of(), duels()), duels(), tmp_path / "data" / "windows")
    return {"GRINDSTONE_DATA_DIR": str(tmp_path / "data")}


def test_to_a_file_and_to_stdout_the_digest_is_one(home: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    result = runner.invoke(app, ["replay", "archive", "--out", str(out), "--json"], env=home)
    assert result.exit_code == Exit.OK, result.output
    found = json.loads(result.stdout)
    assert (found["rows"], found["out"]) == (120, str(out))
    assert len(out.read_text().splitlines()) == 120
    printed = runner.invoke(app, ["replay", "archive", "--json"], env=home)
    assert printed.stdout == out.read_text()
    assert json.loads(printed.stderr)["digest"] == found["digest"]
    spoken = runner.invoke(app, ["replay", "archive", "--archetype", "guard"], env=home)
    assert len(spoken.stdout.splitlines()) == 60
    assert "rows 60 of 120 read" in spoken.stderr
    assert "digest " in spoken.stderr


def test_a_file_that_is_there_is_left_alone(home: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("mine")
    result = runner.invoke(app, ["replay", "archive", "--out", str(out)], env=home)
    assert result.exit_code == Exit.USAGE
    assert "--out must be a path where nothing is yet" in result.stderr
    assert out.read_text() == "mine"


def test_a_replay_that_fails_leaves_no_file(home: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "rows.parquet"
    result = runner.invoke(app, ["replay", "archive", "--out", str(out)], env=home)
    assert result.exit_code == Exit.FAILED  # the settings describe another game
    assert "game of a row must be battle" in result.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nothing"], "SOURCE must be archive or one of game-events"),
        (["archive", "--from", "yesterday"], "--from must be a time such as"),
        (["archive", "--from", "2026-02-01", "--to", "2026-01-01"], "--to must be after --from"),
        (["archive", "--type", "tick"], "--type must be one of experience"),
        (["archive", "--out", "rows.txt"], "--out must be a file that ends in"),
        (["archive", "--format", "parquet"], "--out must be a file with --format parquet"),
        (["archive", "--from-offset", "x"], "--from-offset must be PARTITION:OFFSET"),
        (
            ["archive", "--from-offset", "0:9", "--to-offset", "0:9"],
            "--to-offset must be after --from-offset 0:9",
        ),
        (["archive", "--out", "no/such/rows.jsonl"], "--out must be in a folder that exists"),
    ],
)
def test_bad_questions_exit_2(home: dict[str, str], arguments: list[str], text: str) -> None:
    result = runner.invoke(app, ["replay", *arguments], env=home)
    assert result.exit_code == Exit.USAGE, result.output
    assert text in result.stderr


def test_no_broker_exits_3() -> None:
    nobody = {"GRINDSTONE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    result = runner.invoke(app, ["replay", "game-events"], env=nobody)
    assert result.exit_code == Exit.NO_BROKER


def test_times_and_durations_are_read_as_people_write_them() -> None:
    assert parse_time("1970-01-02", "t") == 86_400_000
    assert parse_time("1970-01-01T01:00+01:00", "t") == 0
    assert parse_time("12", "t") == 12
    assert show_time(86_400_500) == "1970-01-02T00:00:00.500Z"
    durations = {"0": 0, "200ms": 200, "6h": 21_600_000, "1d12h": 129_600_000, "1.5s": 1_500}
    assert {text: parse_duration(text, "d") for text in durations} == durations
    assert show_duration(129_600_000) == "1d12h"
    for bad in ("", "6", "h", "6 h", "-1h", "1h?"):
        with pytest.raises(SchemaError, match="d must be a duration"):
            parse_duration(bad, "d")
