"""grindstone learn: what is refused, what survives, and that a version can be made again."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from infra.cli.app import app
from infra.learn.report import lines_of, read_report
from streams.pool import Tell, WorkerError, run_all

runner = CliRunner()
SMALL = ["-t", "threat_assessment", "-a", "mage", "-a", "tank", "--samples", "1500"]
TWO = ("mage", "tank")
TINY = [*SMALL, "--updates", "5"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRINDSTONE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def work(job: int, tell: Tell) -> int:
    """Fail by an error, by a signal, or not at all."""
    tell(job)
    if job == 2:
        msg = "it must not be 2"
        raise ValueError(msg)
    if job == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return job * 10


@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_that_fails_or_dies_ends_no_other(processes: int) -> None:
    found = run_all([1, 2, 3, 4], work, processes)
    assert found[0] == 10 and found[3] == 40
    assert isinstance(found[1], ValueError) and str(found[1]) == "it must not be 2"
    assert isinstance(found[2], WorkerError) and "ended with -9" in str(found[2])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--all", "--lr", "-1"], "--lr must be greater than 0; got -1"),
        (["train", "--all", "--lr", "nan"], "--lr must be greater than 0; got nan"),
        (["train", "-t", "magic"], "--type must be one of combat_dqn,"),
        (["train", "-a", "elf"], "--archetype must be one of aggressive,"),
        (["train"], "learn train must be given --all, --archetype or --type; got none"),
        (["train", "--all", "--epochs", "1", "--updates", "2"], "--updates must be left out"),
        (["train", "--all", "--report", "x.txt"], "--report must be a file that ends in .html"),
        (["train", "--all", "--memory-gb", "0"], "--memory-gb must be greater than 0; got 0"),
        (["coordinate", "--pack", "4"], "--pack must be 5, a pack of the arena; got 4"),
        (["continuous", "--rows", "9", "--keep", "5"], "--keep must be at least --rows, 9; got 5"),
        (["continuous", "--method", "magic"], "--method must be one of on_policy"),
        (["evaluate", "nobody"], "NAME@V must be a version below"),
        (["transfer", "--from", "nobody", "--to", "mage"], "--from must be a version below"),
    ],
)
def test_what_cannot_be_is_refused_by_name(data: Path, arguments: list[str], says: str) -> None:
    result = runner.invoke(app, ["learn", *arguments])
    assert result.exit_code == 2
    assert f"grindstone: {says}" in result.stderr
    assert not data.exists()


def invoke(*arguments: str, code: int = 0) -> Any:
    result = runner.invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.stderr
    return msgspec.json.decode(result.stdout)


def test_versions_are_trained_judged_exported_compared_and_made_again(data: Path) -> None:
    told = invoke("learn", "train", *TINY)
    assert set(told["trainings"][0]["folders"]) == {"mage", "tank"}
    reports = data / "learn" / "reports"
    assert sorted(p.name for p in reports.iterdir()) == ["0001.html", "0001.json", "0001.md"]
    lines = lines_of(read_report(reports / "0001.json"))
    assert {(line.archetype, line.measure) for line in lines} == {(a, "gain") for a in TWO}
    assert "| threat_assessment | mage | gain |" in (reports / "0001.md").read_text()

    name = "arena-mage-threat_assessment"
    again = invoke("models", "rebuild", f"{name}@v0001")
    assert again["same"] and again["sha256"] == again["wanted"]

    # what was finished is not done again; what is asked for anew is
    resumed = invoke("learn", "train", *TINY, "--resume")
    assert resumed["trainings"][0]["folders"] == told["trainings"][0]["folders"]
    warm = ["--from", name, "--to", "tank", "--freeze", "net", "--updates", "2"]
    invoke("learn", "transfer", *warm, "--samples", "1500")
    both = (f"{name}@1", "arena-tank-threat_assessment@2")
    difference = invoke("models", "diff", *both)
    assert difference["data"]["archetype"] == ["mage", "tank"]
    assert difference["made"]["updates"] == [5, 2]
    assert difference["n"] > 100 and 0.0 <= difference["largest"]
    assert difference["made"]["warm"][1]["versions"] == {"tank": f"{name}@v0001"}

    [exported] = invoke("learn", "export", name, "--form", "fp32", "--optimise")
    assert exported["forms"][0]["agreement"] == 1.0
    assert Path(exported["path"]).is_file()
    judged = runner.invoke(app, ["learn", "evaluate", name, "--episodes", "20", "--json"])
    assert judged.exit_code in (0, 1)
    assert msgspec.json.decode(judged.stdout)["judged"][0]["quality"]["measure"] == "gain"


def test_a_training_that_fails_is_told_and_the_exit_code_is_1(data: Path) -> None:
    told = invoke("learn", "train", *TINY, "--memory-gb", "0.001", code=1)
    assert told["trainings"] == []
    assert "--memory-gb must be at least" in told["failed"]["threat_assessment"]
