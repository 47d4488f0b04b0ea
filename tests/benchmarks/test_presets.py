"""The benchmark of the presets: its arithmetic, its page, and that the defaults are what won."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import presets
from benchmarks.learners_table import DOCS
from benchmarks.presets import BEGIN, Budget, Run, Runs
from infra.cli import learn, learned
from infra.learn.asked import Asked
from learners.model_types.base import Preset
from learners.model_types.registry import names
from learners.training.plan import Plan
from learners.training.retrain import RetrainRule


def one(preset: Preset, models: list[dict[str, Any]], rows: str = "a") -> Run:
    return Run(
        preset=preset, settings={"updates": 20}, budget=Budget(), rows={"mage": rows}, updates=10,
        whole=False, cpu_s=1.0, models={f"a{i}": model for i, model in enumerate(models)},
    )  # fmt: skip


def won(value: float, n: int = 400) -> dict[str, Any]:
    return {"measure": "win_rate", "value": value, "low": 0.0, "high": 1.0, "n": n, "good": False}


def gained(value: float, half: float) -> dict[str, Any]:
    low, high = value - half, value + half
    return {"measure": "gain", "value": value, "low": low, "high": high, "n": 9, "good": low > 0}


def test_matches_count_together_and_gains_by_their_spread() -> None:
    run = one("modern", [won(0.5), won(1.0)])
    assert run.value() == pytest.approx(0.75)
    assert run.interval() == pytest.approx((0.7188, 0.7788), abs=1e-3)  # Wilson, 600 of 800
    run = one("modern", [gained(0.2, 0.3), gained(0.4, 0.4)])
    assert run.interval() == pytest.approx((0.3 - 0.25, 0.3 + 0.25))  # hypot(0.3, 0.4) / 2
    assert run.met() == 0


def test_higher_mean_wins_and_clearly_only_beyond_both_intervals() -> None:
    both: dict[Preset, Run] = {
        "classic": one("classic", [gained(0.1, 0.05)]), "modern": one("modern", [gained(0.3, 0.1)])
    }  # fmt: skip
    assert presets.winner(both) == "modern"
    assert presets.is_clear(both)
    both["modern"] = one("modern", [gained(0.3, 0.2)])
    assert not presets.is_clear(both)
    runs: Runs = {"spatial_vit": both, "combat_dqn": {"classic": both["classic"]}}
    assert presets.winners(runs) == {"spatial_vit": "modern"}
    lines = presets.render_markdown(runs).splitlines()
    assert lines[0].startswith("Won by `classic` 0 of 1 types, `modern` 1 of 1 types. Not measured")
    assert "`combat_dqn`" in lines[0]
    assert "`spatial_vit`" not in lines[0]
    assert lines[-1].startswith("| combat_dqn | classic | gain 0.100 | 0.050 to 0.150 | 1 of 1 |")
    assert lines[-2].endswith(" | 10 of 20 | 1 | yes, within the intervals |")


def test_what_is_kept_is_merged_and_fills_its_table(tmp_path: Path) -> None:
    path, page = tmp_path / "presets.json", tmp_path / "page.md"
    page.write_text(f"a\n{BEGIN}old\n<!-- /table -->\nb\n")
    runs: Runs = {"skill_dqn": {"modern": one("modern", [won(0.5)])}}
    presets.keep(runs, path, page)
    kept = presets.read_kept(path)
    assert kept.runs == runs
    assert page.read_text() == f"a\n{BEGIN}{kept.markdown}<!-- /table -->\nb\n"


def test_unlike_rows_or_budgets_are_not_compared() -> None:
    classic, modern = one("classic", [won(0.5)]), one("modern", [won(0.6)])
    assert presets.winners({"skill_dqn": {"classic": classic, "modern": modern}})
    other = one("modern", [won(0.6)], rows="b")
    assert not presets.winners({"skill_dqn": {"classic": classic, "modern": other}})
    longer = msgspec.structs.replace(modern, budget=Budget(seconds=99.0))
    assert not presets.winners({"skill_dqn": {"classic": classic, "modern": longer}})


def test_defaults_are_the_preset_that_won_and_the_page_has_the_table() -> None:
    kept = presets.read_kept()
    won = presets.winners(kept.runs)
    assert won
    assert set(won) <= set(names())
    best = max(presets.PRESETS, key=list(won.values()).count)
    assert Asked(types=("skill_dqn",)).preset == best
    assert RetrainRule().preset == best
    assert Plan(type="skill_dqn", archetypes=["mage"], settings={}).preset == best
    commands: list[Callable[..., object]] = [
        learn.train, learned.transfer, learned.coordinate, learned.profile, learned.continuous
    ]  # fmt: skip
    for command in commands:
        assert inspect.signature(command).parameters["preset"].default == best, command
    assert kept.markdown in DOCS.read_text("utf-8")
