"""Both presets of each type on the same rows, with the same CPU seconds, judged alike.

    python -m benchmarks.presets                        # all nine types, about 15 CPU minutes
    python -m benchmarks.presets --only spatial_vit     # one; the others' kept results stay

Trains both presets as `grindstone learn train` does, from the rows that it keeps: six archetypes
as one stack, one thread, to the preset's own end or to the first update behind the last of the CPU
seconds. Then the same judgement of both, by what nothing was chosen by: matches against the
traditional AI for a type that acts; for one that predicts, the gain on the trivial predictor on
matches recorded afterwards. Kept are `benchmarks/results/presets.json`, written after each
training, and the table in `docs/learners.md`.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import msgspec
import torch

from benchmarks.learners_table import DOCS, filled
from infra.learn.asked import SAMPLES, Asked
from infra.learn.judged import FRESH
from infra.learn.rows import ensure_rows, make_layout, make_world
from infra.learn.train import make_plan
from learners.model_types.base import Preset, wants_maps
from learners.model_types.registry import model_type, names
from learners.training.plan import Plan
from learners.training.quality import qualities
from learners.training.rows import read_rows
from learners.training.run import Hooks, Point, Training
from schemas.evidence import wilson
from schemas.practice import ARCHETYPES

RESULTS = Path(__file__).parent / "results" / "presets.json"
BEGIN = "<!-- table: presets -->\n"
PRESETS: tuple[Preset, ...] = get_args(Preset)
SECONDS = 40.0
"""CPU seconds of a training, without its last judgement."""
FRESH_ROWS = 1_500
"""Rows an archetype that judge what predicts: a vision transformer takes 3 ms for one."""
MATCHES = 200
"""An archetype, so that a mean is one of 1,200."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What two presets had alike."""

    seconds: float = SECONDS
    samples: int = SAMPLES
    fresh: int = FRESH_ROWS
    matches: int = MATCHES
    seed: int = 1


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One preset of one type, trained and judged."""

    preset: Preset
    settings: dict[str, Any]
    budget: Budget
    rows: dict[str, str]
    """Digests of the rows by archetype: equal ones prove equal rows."""
    updates: int
    whole: bool
    """Whether the training came to the preset's own end within its seconds."""
    cpu_s: float
    models: dict[str, dict[str, Any]]
    """Archetype -> what `learners.training.quality` found."""

    def value(self) -> float:
        """Return the mean over archetypes; a loss that could not be compared gains nothing."""
        return fmean(float(one.get("value", 0.0)) for one in self.models.values())

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the mean: of all matches, or of independent gains."""
        models = list(self.models.values())
        if all(one["measure"] == "win_rate" for one in models):
            n = sum(int(one["n"]) for one in models)
            return wilson(sum(round(one["value"] * one["n"]) for one in models), n)
        half = [(float(one["high"]) - float(one["low"])) / 2 for one in models if "low" in one]
        spread = math.hypot(*half) / len(models)
        return self.value() - spread, self.value() + spread

    def met(self) -> int:
        """Return how many archetypes' models meet their target."""
        return sum(bool(one["good"]) for one in self.models.values())


Runs = dict[str, dict[Preset, Run]]
"""By type and preset."""


class Kept(msgspec.Struct, frozen=True):
    """What is kept: the table, and the runs that it was made of."""

    markdown: str = ""
    runs: Runs = {}


def winner(runs: dict[Preset, Run]) -> Preset:
    """Return the preset of the higher mean."""
    return max(runs, key=lambda preset: runs[preset].value())


def is_clear(runs: dict[Preset, Run]) -> bool:
    """Return whether the intervals of the two do not touch."""
    low, high = sorted((run.interval() for run in runs.values()), key=fmean)
    return low[1] < high[0]


def is_fair(runs: dict[Preset, Run]) -> bool:
    """Return whether both presets are there, of the same rows and with the same budget."""
    if len(runs) != len(PRESETS):
        return False
    one, other = runs.values()
    return one.rows == other.rows and one.budget == other.budget


def winners(runs: Runs) -> dict[str, Preset]:
    """Return the winning preset of each type of which both were measured alike."""
    return {name: winner(both) for name, both in runs.items() if is_fair(both)}


def train(plan: Plan, folders: Sequence[Path], seconds: float) -> Training:
    """Return a training that came to its end, or to the last of its CPU seconds."""
    began = time.process_time()

    def spent() -> float:
        return time.process_time() - began

    def tell(point: Point, kind: str) -> None:
        if kind == "judged":
            told = {k: [round(x, 3) for x in v] for k, v in point.values.items()}
            print(
                f"{plan.type} {plan.preset} {point.update}: {spent():.0f} s {told}", file=sys.stderr
            )

    world = make_world(plan.archetypes) if plan.kind.acts is not None else None
    training = Training(plan, make_layout(), [read_rows(folder) for folder in folders], world)
    training.run(Hooks(on_point=tell, stop=lambda: spent() >= seconds))
    training.conclude()
    return training


def plan_of(name: str, preset: Preset, budget: Budget, folders: dict[str, Path]) -> Plan:
    """Return the plan of `grindstone learn train` for all archetypes."""
    asked = Asked(types=(name,), preset=preset, samples=budget.samples, seed=budget.seed)
    return make_plan(name, asked, "cpu", folders, None)


def measure(name: str, preset: Preset, budget: Budget, data: Path) -> Run:
    """Train one preset and judge it on what nothing was chosen by."""
    maps = wants_maps(model_type(name), make_layout())
    folders = ensure_rows(data, ARCHETYPES, budget.samples, budget.seed, maps)
    plan = plan_of(name, preset, budget, folders)
    began = time.process_time()
    training = train(plan, list(folders.values()), budget.seconds)
    cpu_s = time.process_time() - began
    acts = plan.kind.acts is not None
    fresh = training.held_out
    if not acts:
        fresh_folders = ensure_rows(data, ARCHETYPES, budget.fresh, budget.seed + FRESH, maps)
        fresh = [read_rows(folder) for folder in fresh_folders.values()]
    models = qualities(
        plan.kind, training.stack, ARCHETYPES, fresh, make_world(ARCHETYPES) if acts else None,
        budget.matches, plan.derived_seed("evaluate"),
    )  # fmt: skip
    return Run(
        preset=preset, settings=plan.settings, budget=budget, models=models,
        rows={archetype: told["digest"] for archetype, told in plan.rows.items()},
        updates=training.progress.n_updates, whole=training.finished, cpu_s=round(cpu_s, 1),
    )  # fmt: skip


COLUMNS = ("type", "preset", "mean", "95 %", "met", "updates", "CPU s", "wins")


def cells_of(name: str, preset: Preset, runs: dict[Preset, Run]) -> list[str]:
    """Return a line of the table, in the order of `COLUMNS`."""
    run = runs[preset]
    low, high = run.interval()
    wins = ""
    if is_fair(runs) and winner(runs) == preset:
        wins = "yes" if is_clear(runs) else "yes, within the intervals"
    updates = f"{run.updates:,}" if run.whole else f"{run.updates:,} of {run.settings['updates']:,}"
    measure = "won" if next(iter(run.models.values()))["measure"] == "win_rate" else "gain"
    return [
        name, preset, f"{measure} {run.value():.3f}", f"{low:.3f} to {high:.3f}",
        f"{run.met()} of {len(run.models)}", updates, f"{run.cpu_s:.0f}", wins,
    ]  # fmt: skip


def render_markdown(runs: Runs) -> str:
    """Return the table, and what it comes to in one line."""
    won = winners(runs)
    lines = [
        f"| {' | '.join(cells_of(name, preset, both))} |"
        for name, both in runs.items()
        for preset in PRESETS
        if preset in both
    ]
    counts = ", ".join(f"`{p}` {list(won.values()).count(p)} of {len(won)} types" for p in PRESETS)
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    missing = ", ".join(f"`{name}`" for name in names() if name not in won)
    told = f"Won by {counts}." + (f" Not measured alike with both: {missing}." if missing else "")
    return "\n".join([told, "", *head, *lines]) + "\n"


def read_kept(path: Path = RESULTS) -> Kept:
    """Return what is kept, nothing where there is no file."""
    return msgspec.json.decode(path.read_bytes(), type=Kept) if path.is_file() else Kept()


def keep(runs: Runs, path: Path = RESULTS, page: Path = DOCS) -> None:
    """Write the results and fill the table in."""
    ordered = {name: runs[name] for name in names() if name in runs}
    kept = Kept(render_markdown(ordered), ordered)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    page.write_text(filled(page.read_text("utf-8"), kept.markdown, BEGIN), "utf-8")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=names(), help="only this type")
    parser.add_argument("--preset", action="append", choices=PRESETS, help="only this preset")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="CPU seconds a training")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="rows an archetype")
    parser.add_argument("--fresh", type=int, default=FRESH_ROWS, help="rows that judge a model")
    parser.add_argument("--matches", type=int, default=MATCHES, help="matches that judge a model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path(".grindstone/data"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, judge, keep and print."""
    options = arguments(argv)
    torch.set_num_threads(1)
    budget = Budget(**{name: getattr(options, name) for name in Budget.__struct_fields__})
    for name in options.only or names():
        for preset in options.preset or PRESETS:
            run = measure(name, preset, budget, options.data)
            runs = dict(read_kept().runs)
            runs[name] = {**runs.get(name, {}), preset: run}
            keep(runs)
            print(" | ".join(cells_of(name, preset, runs[name])), flush=True)


if __name__ == "__main__":
    main()
