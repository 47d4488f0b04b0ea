"""What the rewards in windows look like: counted, drawn, and what is wrong with them named."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from infra.analysis import Analysis, Wanted, analyse
from infra.analysis_page import render_page, sparkline
from infra.cli.app import app
from infra.cli.common import Exit
from infra.settings import Settings, load
from schemas.errors import SchemaError
from schemas.records import Experience, Row
from tests.infra.lake import DUELS, START_MS, STEP_MS, archive, duels, fold, log_of

runner = CliRunner()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return fold(log_of(), duels())


def put(folder: Path, rows: list[Row]) -> Settings:
    archive(rows, duels(), folder / "data" / "windows")
    (folder / "duel.toml").write_text(DUELS)
    return load(environ=environ(folder))


def environ(folder: Path) -> dict[str, str]:
    data, game = str(folder / "data"), str(folder / "duel.toml")
    return {"GRINDSTONE_DATA_DIR": data, "GRINDSTONE_GAME": game}


def with_total(rows: list[Row], value: float) -> list[Row]:
    """The rows with another total in one of fighter `a`."""
    at = next(i for i, r in enumerate(rows) if isinstance(r, Experience) and r.actor_id == "a")
    return [*rows[:at], msgspec.structs.replace(rows[at], total=value), *rows[at + 1 :]]


def parts_of(found: Analysis, group: int = 0) -> dict[str, int]:
    return {part.name: part.distribution.n for part in found.groups[group].parts}


def test_every_group_and_part_is_there(tmp_path: Path, rows: list[Row]) -> None:
    found = analyse(put(tmp_path, rows), Wanted())
    assert [(g.archetype, g.domain, g.reward_version, g.n) for g in found.groups] == [
        ("fighter", "combat", "duel@1", 60),
        ("guard", "combat", "duel@1", 60),
    ]
    n_told = sum(n for s, n in found.groups[0].statuses.items() if s != "default")
    assert parts_of(found) == {
        "immediate": 60,
        "long_term": 60,
        "total": 60,
        "hits": n_told,
        "losses": n_told,
    }
    fighters = [r for r in rows if isinstance(r, Experience) and r.actor_id == "a"]
    losses = [r.outcome_facts["losses"] for r in fighters if r.outcome_facts]
    told = found.groups[0].parts[-1].distribution
    assert told.mean == pytest.approx(-0.25 * sum(losses) / len(losses))
    assert told.zeros == pytest.approx(losses.count(0.0) / len(losses))
    assert (found.problems, found.n) == ([], 120)


def test_archetypes_and_times_can_be_picked(tmp_path: Path, rows: list[Row]) -> None:
    settings = put(tmp_path, rows)
    times = {"from_ms": START_MS + 5 * STEP_MS, "to_ms": START_MS + 9 * STEP_MS}
    found = analyse(settings, Wanted(archetypes=frozenset({"guard"}), **times))
    assert [(g.archetype, g.n) for g in found.groups] == [("guard", 4)]
    with pytest.raises(SchemaError, match="the archive must be one with decisions of duel"):
        analyse(settings, Wanted(archetypes=frozenset({"mage"})))


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (-math.inf, "-inf")])
def test_what_is_no_number_is_a_problem(
    tmp_path: Path, rows: list[Row], value: float, shown: str
) -> None:
    put(tmp_path, with_total(rows, value))
    result = runner.invoke(app, ["rewards", "analyse", "--json"], env=environ(tmp_path))
    assert result.exit_code == Exit.FAILED
    found = json.loads(result.stdout)
    (problem,) = found["problems"]
    assert problem.startswith("total of fighter, combat, duel@1 must be finite; ")
    total = found["groups"][0]["parts"][2]
    assert total["n_outliers"] == 1
    assert total["outliers"][0][1] == shown
    assert total["distribution"]["n"] == 60


def test_outliers_are_named(tmp_path: Path, rows: list[Row]) -> None:
    found = analyse(put(tmp_path, with_total(rows, 40.0)), Wanted())
    total = found.groups[0].parts[2]
    assert (total.n_outliers, total.outliers[0][1]) == (1, 40.0)
    assert total.outliers[0][0].startswith("a/e1/")


def test_a_reward_that_says_nothing_is_worth_a_look(tmp_path: Path) -> None:
    silent = duels(horizon_ms=0, standing=None)
    found = analyse(put(tmp_path, fold(log_of(), silent)), Wanted())
    assert "long_term of fighter, combat, duel@1 is 0 in 100.0% of decisions" in found.remarks


def test_command_prints_and_draws(tmp_path: Path, rows: list[Row]) -> None:
    put(tmp_path, rows)
    page, picture = tmp_path / "rewards.html", tmp_path / "rewards.png"
    for out in (page, picture):
        result = runner.invoke(
            app, ["rewards", "analyse", "--out", str(out)], env=environ(tmp_path)
        )
        assert result.exit_code == Exit.OK, result.output
        assert "guard, combat, duel@1: 60 decisions" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert "<svg" in text
    assert set(re.findall(r'https?://[^/"]+', text)) == {"http://www.w3.org"}  # names, no places
    again = runner.invoke(app, ["rewards", "analyse", "--out", str(page)], env=environ(tmp_path))
    assert again.exit_code == Exit.USAGE
    assert page.read_text() == text
    wrong = runner.invoke(app, ["rewards", "analyse", "--out", "x.txt"], env=environ(tmp_path))
    assert "--out must be a file that ends in .html or .png" in wrong.stderr


def test_page_is_the_same_each_time(tmp_path: Path, rows: list[Row]) -> None:
    found = analyse(put(tmp_path, rows), Wanted())
    assert render_page(found, "duel") == render_page(found, "duel")


def test_sparkline_shows_shape() -> None:
    assert sparkline([0, 1, 100, 0], 4) == " ▂█ "
    assert sparkline([0, 0]) == ""
