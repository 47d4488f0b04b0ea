"""History scored again: the same log under other descriptions, compared, and refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from infra.backtest.ask import Asked, ask
from infra.backtest.question import Changes, Question, make_variants, needs_log
from infra.backtest.refold import LogJob, VariantFold
from infra.backtest.report import make_report
from infra.backtest.rescore import score
from infra.backtest.run import BacktestError, Scored
from infra.cli.app import app
from infra.cli.common import Exit
from infra.settings import Settings, load
from schemas.arrow import rows_digest
from schemas.columns import rows_to_table
from schemas.errors import SchemaError
from schemas.game import Game
from schemas.kafka import KafkaSettings
from schemas.records import Experience, Row
from schemas.topics import Topics
from streams.archive import read_archive
from streams.engine.records import Record
from streams.replay import RowSetDigest
from tests.infra.lake import DUELS, START_MS, STEP_MS, archive, duels, fold, log_of

runner = CliRunner()
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def log() -> list[Record]:
    return log_of()


@pytest.fixture
def home(tmp_path: Path, log: list[Record]) -> Path:
    """Data with an archive of the log, and no broker."""
    archive(fold(log, duels()), duels(), tmp_path / "data" / "windows")
    (tmp_path / "duel.toml").write_text(DUELS)
    return tmp_path


def environ(home: Path) -> dict[str, str]:
    return {
        "GRINDSTONE_DATA_DIR": str(home / "data"),
        "GRINDSTONE_GAME": str(home / "duel.toml"),
        "GRINDSTONE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }


def settings(home: Path) -> Settings:
    return load(environ=environ(home))


def experiences(rows: Sequence[Row]) -> list[Experience]:
    return [row for row in rows if isinstance(row, Experience)]


def refolded(log: list[Record], games: dict[str, Game], folder: Path, **times: Any) -> Any:
    job = LogJob(
        kafka=KafkaSettings(),
        topics=Topics(),
        partition=0,
        begin=0,
        end=len(log),
        games=games,
        from_ms=times.get("from_ms"),
        to_ms=times.get("to_ms"),
        folder=str(folder),
    )
    folds = {name: VariantFold(job, name, game) for name, game in games.items()}
    for at in range(0, len(log), 3):
        for one in folds.values():
            one.take(log[at : at + 3])
    return {name: one.finish(0, len(log)) for name, one in folds.items()}


def digest_of(rows: Sequence[Experience]) -> str:
    digest = RowSetDigest()
    for row in rows:
        digest.add(row)
    return digest.hexdigest()


def test_refold_writes_what_the_fold_says(log: list[Record], tmp_path: Path) -> None:
    games = {"as": duels(), "other": duels(reward="duel@2")}
    parts = refolded(log, games, tmp_path)
    for name, game in games.items():
        wanted = experiences(fold(log, game))
        found = list(read_archive(f"{tmp_path}/{name}/windows"))
        assert sorted(found, key=lambda r: r.origin) == wanted
        assert (parts[name].n_rows, parts[name].digest) == (120, digest_of(wanted))
        assert (parts[name].n_open, parts[name].n_dead) == (0, 0)


def test_a_longer_horizon_leaves_open_what_the_log_does_not_reach(
    log: list[Record], tmp_path: Path
) -> None:
    parts = refolded(log, {"long": duels(horizon_ms=64_000)}, tmp_path)
    assert 0 < parts["long"].n_open < 120
    assert parts["long"].n_rows == 120 - parts["long"].n_open


def test_a_range_keeps_the_decisions_of_that_time(log: list[Record], tmp_path: Path) -> None:
    lo, hi = START_MS + 10 * STEP_MS, START_MS + 20 * STEP_MS
    parts = refolded(log, {"as": duels()}, tmp_path, from_ms=lo, to_ms=hi)
    wanted = [r for r in experiences(fold(log, duels())) if lo <= r.decision_time_ms < hi]
    assert (parts["as"].n_rows, parts["as"].digest) == (20, digest_of(wanted))


def test_rows_scored_from_their_facts_are_those_of_the_fold(log: list[Record]) -> None:
    other = duels(reward="duel@2", long_term_weight=0.25, default_reward=-0.5, standing_unit=5.0)
    assert needs_log(duels(), other) is None
    wanted = experiences(fold(log, other))
    table = rows_to_table(experiences(fold(log, duels())), 2, 3)
    assert score(table, other) == wanted
    assert {row.status for row in wanted} >= {"observed", "default"}
    assert rows_digest(wanted) != rows_digest(experiences(fold(log, duels())))


def test_what_facts_cannot_tell_is_named() -> None:
    assert needs_log(duels(), duels(horizon_ms=2_000)) == "horizon_ms of combat"
    assert needs_log(duels(), duels(credit="discounted")) == "credit of combat"


def test_variants_are_a_description_for_each_horizon() -> None:
    game = duels()
    variants = make_variants(game, Changes(rewards=["duel@2"], horizons=["1h,6h,7d,0"]))
    assert [v.name for v in variants] == ["duel@2+1h", "duel@2+6h", "duel@2+1w", "duel@2+0"]
    assert [v.game.domains["combat"].horizon_ms for v in variants] == [
        HOUR_MS,
        6 * HOUR_MS,
        168 * HOUR_MS,
        0,
    ]
    assert {v.game.domains["combat"].reward for v in variants} == {"duel@2"}
    (alone,) = make_variants(game, Changes(weights=["combat=0.25"]))
    assert (alone.name, alone.game.domains["combat"].long_term_weight) == (
        "weight=combat=0.25",
        0.25,
    )
    (other,) = make_variants(game, Changes(rewards=["combat=other@1"]))
    assert other.game.domains["combat"].reward == "other@1"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rewards": ["duel@9"]}, "--reward must be one of duel@1, duel@2, other@1; got 'duel@9'"),
        ({"rewards": ["trade=duel@2"]}, "--reward must be of one of the domains combat"),
        ({"horizons": ["soon"]}, "--horizon must be a duration such as 6h"),
        ({"horizons": ["1h", "1h"]}, "--horizon must be given once each"),
        ({"horizons": [",".join(f"{n}h" for n in range(1, 18))]}, "--horizon must be at most 16"),
        ({"weights": ["-1"]}, "--weight must be a number of 0 or more"),
        ({"weights": ["nan"]}, "--weight must be a number of 0 or more"),
    ],
)
def test_bad_changes_are_refused(changes: Any, text: str) -> None:
    with pytest.raises(SchemaError) as caught:
        make_variants(duels(), Changes(**changes))
    assert text in str(caught.value)


def test_a_horizon_needs_a_standing() -> None:
    game = duels(horizon_ms=0, standing=None)
    for text in ("6h", "combat=6h"):
        with pytest.raises(
            SchemaError, match="--horizon must be 0 for a domain without a standing"
        ):
            make_variants(game, Changes(horizons=[text]))


def test_the_same_question_has_one_name_and_one_digest(home: Path) -> None:
    asked = Asked(rewards=("duel@2",))
    first = ask(settings(home), asked)
    assert (first.new, first.manifest.scored[0].n_rows) == (True, 120)
    page = (first.folder / "report.html").read_bytes()
    again = ask(settings(home), msgspec.structs.replace(asked, again=True))
    assert (again.new, again.manifest, again.folder) == (False, first.manifest, first.folder)
    (first.folder / "manifest.json").rename(first.folder.with_name("kept"))
    for path in sorted(first.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    first.folder.rmdir()
    anew = ask(settings(home), asked)
    assert anew.manifest == first.manifest  # the page and every file of windows, too
    assert (anew.folder / "report.html").read_bytes() == page
    assert ask(settings(home), Asked(rewards=("other@1",))).folder != first.folder


def test_an_answer_that_was_changed_is_found_out(home: Path) -> None:
    found = ask(settings(home), Asked(rewards=("duel@2",)))
    path = found.folder / "manifest.json"
    forged = json.loads(path.read_text()) | {"digest": "00"}
    path.write_text(json.dumps(forged))
    with pytest.raises(BacktestError, match="must have digest"):
        ask(settings(home), Asked(rewards=("duel@2",), again=True))


def test_report_compares_before_and_after(home: Path, log: list[Record]) -> None:
    report = ask(settings(home), Asked(rewards=("duel@2",))).report
    before = {r.decision_id: r for r in experiences(fold(log, duels()))}
    after = experiences(fold(log, duels(reward="duel@2")))
    (variant,) = report.variants
    assert (report.source, report.before, variant.n_matched) == ("archive", "recorded", 120)
    assert [(g.archetype, g.n) for g in variant.groups] == [
        (None, 120),
        ("fighter", 60),
        ("guard", 60),
    ]
    total = variant.groups[0].rewards["total"]
    assert total.before is not None
    assert total.change is not None
    assert total.before.mean == pytest.approx(sum(r.total for r in before.values()) / 120)
    changed = sum(r.total != before[r.decision_id].total for r in after)
    assert total.change.changed == pytest.approx(changed / 120)
    lost = sum((r.outcome_facts or {}).get("losses", 0.0) > 0 for r in after)
    assert changed == lost > 0
    top = variant.top[0]
    assert top["change"] == pytest.approx(-0.5)
    assert top["facts"]["losses"] == 1.0
    losses = variant.groups[0].parts["losses"]
    assert losses.before is not None
    assert losses.after is not None
    assert losses.after.mean == pytest.approx(3 * (losses.before.mean or 0))
    assert sum(map(sum, variant.plane)) == 120


def test_before_can_be_the_log_folded_again(log: list[Record], tmp_path: Path) -> None:
    games = {"long": duels(horizon_ms=2_000), "before": duels()}
    parts = refolded(log, games, tmp_path)
    question = Question(
        game=duels(),
        variants=make_variants(duels(), Changes(horizons=["2s"])),
        source="log",
        before="refolded",
        topic="game-events",
        spans={0: (0, len(log))},
    )
    (tmp_path / "long").rename(tmp_path / "2s")
    scored = [
        Scored(name=n, digest=p.digest, n_rows=p.n_rows, n_windows=1, n_open=0, n_dead=0)
        for n, p in (("2s", parts["long"]), ("before", parts["before"]))
    ]
    report = make_report(tmp_path, question, scored, tmp_path / "none")
    rewards = report.variants[0].groups[0].rewards
    assert rewards["immediate"].change is not None
    assert rewards["long_term"].change is not None
    assert rewards["immediate"].change.changed == 0.0
    assert rewards["long_term"].change.changed > 0.5


def test_command_answers_in_words_and_json(home: Path) -> None:
    words = ["backtest", "--reward", "duel@2", "--source", "archive"]
    spoken = runner.invoke(app, words, env=environ(home))
    assert spoken.exit_code == Exit.OK, spoken.output
    assert "rank correlation" in spoken.stdout
    found = json.loads(runner.invoke(app, [*words, "--json"], env=environ(home)).stdout)
    assert found["new"] is False
    assert Path(found["folder"], "report.html").is_file()
    assert found["digest"] in spoken.stdout
    names = {path.name for path in (home / "data" / "backtests").iterdir()}
    assert names == {found["backtest_id"]}
    rows = runner.invoke(
        app, ["sql", "SELECT count(*) AS n FROM rescored", "--json"], env=environ(home)
    )
    assert json.loads(rows.stdout) == [{"n": 120}]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--reward", "duel@9"], Exit.USAGE, "--reward must be one of"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], Exit.USAGE, "--to must be after"),
        (["--from", "soon"], Exit.USAGE, "--from must be a time"),
        (["--game-file", "nothing.toml"], Exit.USAGE, "--game-file must be a description"),
        (["--horizon", "2s", "--source", "archive"], Exit.FAILED, "--source must be log for"),
        (["--horizon", "2s"], Exit.NO_BROKER, "the broker cannot be reached"),
        (
            ["--reward", "duel@2", "--from", "2026-01-01"],
            Exit.FAILED,
            "variant duel@2 must settle decisions from 2026-01-01",
        ),
    ],
)
def test_bad_questions_are_told_in_one_line(
    home: Path, arguments: list[str], code: Exit, text: str
) -> None:
    result = runner.invoke(app, ["backtest", *arguments], env=environ(home))
    assert result.exit_code == code, result.output
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1
    folder = home / "data" / "backtests"
    assert not folder.exists() or not list(folder.iterdir())


def test_another_description_must_be_of_the_same_game(home: Path) -> None:
    other = home / "other.toml"
    other.write_text(DUELS.replace("shape = [2]", "shape = [3]"))
    with pytest.raises(SchemaError, match="observation.shape of size 2; got 3"):
        ask(settings(home), Asked(game_file=other))
    other.write_text(DUELS.replace("losses = -0.75", "losses = -1.0"))
    found = ask(settings(home), Asked(game_file=other, rewards=("duel@2",)))
    assert found.report.variants[0].n_matched == 120
