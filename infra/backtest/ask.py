"""A backtest from what the command line says to the answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from agents.rewards.rules import compile_rewards
from infra.backtest.html import render_page
from infra.backtest.question import (
    Before,
    Changes,
    Question,
    Source,
    check_same_game,
    make_variants,
)
from infra.backtest.report import Report, make_report
from infra.backtest.run import (
    REPORT_JSON,
    REPORT_PAGE,
    Manifest,
    OnTold,
    Scored,
    answer,
    load_manifest,
    put_question,
)
from infra.settings import Settings
from schemas.errors import refuse, shown
from schemas.game import load_game


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command."""

    rewards: tuple[str, ...] = ()
    horizons: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    game_file: Path | None = None
    times: tuple[int | None, int | None] = (None, None)
    source: Source = "auto"
    before: Before = "auto"
    again: bool = False
    processes: int | None = None


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer and where it lies."""

    manifest: Manifest
    report: Report
    folder: Path
    new: bool

    def document(self) -> dict[str, Any]:
        """The answer for scripts."""
        return {
            "backtest_id": self.manifest.backtest_id,
            "digest": self.manifest.digest,
            "folder": str(self.folder),
            "new": self.new,
            "report": msgspec.to_builtins(self.report),
        }


def ask(settings: Settings, asked: Asked, on_told: OnTold | None = None) -> Answered:
    """The answer, worked out or, where it is there already, read.

    Raises:
        SchemaError: the options do not fit the game.
        BacktestError: what there is cannot answer.
    """
    game = settings.load_game()
    described = game
    if asked.game_file is not None:
        if not asked.game_file.is_file():
            refuse("--game-file", "a description that exists", shown(str(asked.game_file)))
        described = load_game(asked.game_file)
        check_same_game(game, described, "--game-file")
    changes = Changes(rewards=asked.rewards, horizons=asked.horizons, weights=asked.weights)
    variants = make_variants(described, changes)
    compile_rewards(described)  # a formula or function that there is not is told before the work
    question = put_question(settings, game, variants, asked.times, asked.source, asked.before)
    new = load_manifest(settings.backtests_dir / question.backtest_id) is None

    def report(folder: Path, question: Question, scored: Sequence[Scored]) -> None:
        found = make_report(folder, question, scored, settings.windows_dir)
        data = msgspec.json.format(msgspec.json.encode(found, order="deterministic"))
        (folder / REPORT_JSON).write_bytes(data)
        (folder / REPORT_PAGE).write_text(render_page(found), encoding="utf-8")

    manifest, folder = answer(settings, question, asked.processes, on_told, report, asked.again)
    found = msgspec.json.decode((folder / REPORT_JSON).read_bytes(), type=Report)
    return Answered(manifest=manifest, report=found, folder=folder, new=new)
