"""The predicting types on the arena's rows: loss held out beside the trivial predictor's.

Records scripted play of each of the six archetypes, trains each type as one stack by the trainer
itself, as `grindstone learn train` does, and judges it on matches recorded afterwards, by which
nothing was chosen: not the weights, not when to stop. Intervals are bootstrapped over matches.
`--models` judges what was trained before in place of a new training.

    python -m benchmarks.predictors --type spatial_vit --preset modern --json
    python -m benchmarks.predictors --type spatial_vit --models .grindstone/data/models
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from games.arena.practice import ArenaPractice
from games.arena.record import episodes
from infra.learn.versions import model_name, versions
from learners.model_types.base import Preset, Stack
from learners.model_types.registry import model_type
from learners.training.deliver import load_stack, read_version
from learners.training.plan import Plan
from learners.training.run import Hooks, Point, Training
from learners.training.weights import copies, put_rows, stacked_weights
from schemas.practice import ARCHETYPES, Episodes, Layout

TYPES = ("threat_assessment", "spatial_vit", "temporal_transformer", "pattern_recognition")
RESULTS = Path(__file__).parent / "results" / "predictors.json"
RESAMPLES = 2_000
FRESH = 1_000
"""Added to the seed for the rows that judge."""

AT_ONCE = ("calibration_error",)
"""Measures that are no means over matches."""

Measures = dict[str, NDArray[np.float64]]
"""By name, a number a match."""


def make_plan(name: str, preset: Preset, changes: Mapping[str, Any], seed: int) -> Plan:
    """Return what the command line would plan for all six archetypes."""
    kind = model_type(name)
    settings = {**msgspec.to_builtins(kind.preset(preset)), **changes}
    return Plan(
        type=name, archetypes=list(ARCHETYPES), preset=preset, settings=settings, seed=seed,
        judge_every=max(1, min(200, settings["updates"] // 10)), curriculum=None,
    )  # fmt: skip


def train(plan: Plan, layout: Layout, rows: Sequence[Episodes], seconds: float) -> Training:
    """Return a training that came to its end, or to the last of its CPU seconds."""
    began = time.process_time()

    def spent() -> float:
        return time.process_time() - began

    def tell(point: Point, kind: str) -> None:
        if kind == "judged":
            gain = 1 - np.divide(point.values["loss"], point.values["trivial"])
            print(f"{plan.type} {point.update} {spent():.0f} s {gain.round(3)}", file=sys.stderr)

    training = Training(plan, layout, rows, None)
    training.run(Hooks(on_point=tell, stop=lambda: spent() >= seconds))
    training.conclude()
    return training


def alone(training: Training, layout: Layout) -> Stack:
    """Return the trained models without the rows that they learned from.

    A stack with rows looks at those in every judgement, too.
    """
    plan, stack = training.plan, training.stack
    device = torch.device("cpu")
    made = plan.kind.make(plan.type_settings(), layout, plan.seeds(), plan.rates(), device)
    put_rows(stacked_weights(made), copies(stacked_weights(stack)), [True] * made.n_models)
    return made


def by_match(stack: Stack, rows: Sequence[Episodes]) -> list[tuple[Measures, NDArray[np.float64]]]:
    """Return of each model its measures by match and each match's rows."""
    matches = [np.unique(one.match) for one in rows]
    told: list[Measures] = [{} for _ in rows]
    for n in range(max(map(len, matches))):
        # Models with fewer matches judge their first ones again, uncounted.
        some = [
            one.take(np.flatnonzero(one.match == names[n % len(names)]))
            for one, names in zip(rows, matches, strict=True)
        ]
        for name, values in stack.judge(some).items():
            for i, value in enumerate(values):
                if n < len(matches[i]):
                    old = told[i].get(name, np.zeros(0))
                    told[i][name] = np.append(old, float(value))
    counts = [np.unique(one.match, return_counts=True)[1].astype(np.float64) for one in rows]
    return list(zip(told, counts, strict=True))


def interval(values: NDArray[np.float64]) -> list[float]:
    """Return the 95 % interval of bootstrapped values."""
    return [float(v) for v in np.quantile(values, [0.025, 0.975])]


def worth(measures: Measures, counts: NDArray[np.float64], seed: int) -> dict[str, Any]:
    """Return means over rows and the gain on the trivial predictor, intervals over matches."""
    n = len(counts)
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    weights = counts[drawn]
    again = {k: (v[drawn] * weights).sum(1) / weights.sum(1) for k, v in measures.items()}
    mean = {k: float((v * counts).sum() / counts.sum()) for k, v in measures.items()}
    return {
        "matches": n,
        "gain": 1 - mean["loss"] / mean["trivial"],
        "gain_interval": interval(1 - again["loss"] / again["trivial"]),
        **mean,
        "intervals": {k: interval(v) for k, v in again.items()},
    }


def whole_matches(rows: Episodes) -> Episodes:
    """Return the rows without those of the last match, which recording may have cut off."""
    return rows.take(np.flatnonzero(rows.match < rows.match.max()))


def judged(stack: Stack, fresh: Sequence[Episodes], seed: int) -> dict[str, Any]:
    """Return by archetype what models are worth that hold no rows."""
    whole = stack.judge(fresh)
    return {
        ARCHETYPES[i]: {
            **worth(measures, counts, seed),
            **{k: float(v[i]) for k, v in whole.items() if k in AT_ONCE},
        }
        for i, (measures, counts) in enumerate(by_match(stack, fresh))
    }


def measure_versions(
    name: str, models: Path, layout: Layout, fresh: Sequence[Episodes]
) -> dict[str, Any]:
    """Judge the newest version of each archetype's model."""
    folders = [versions(models, model_name(name, a))[-1] for a in ARCHETYPES]
    info = read_version(folders[0])
    stack = load_stack(folders, layout)
    return {
        "preset": info.plan.preset,
        "settings": info.plan.settings,
        "seed": info.plan.seed,
        "rows": info.plan.rows[ARCHETYPES[0]]["n_rows"],
        "updates": info.n_updates,
        "weights": sum(p[0].numel() for p in stack.modules()["net"].parameters()),
        "models": judged(stack, fresh, info.plan.seed),
    }


def measure(
    plan: Plan, layout: Layout, rows: Sequence[Episodes], fresh: Sequence[Episodes], seconds: float
) -> dict[str, Any]:
    """Train one stack and judge it."""
    cpu, wall = time.process_time(), time.perf_counter()
    training = train(plan, layout, rows, seconds)
    spent = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall}
    return {
        "preset": plan.preset,
        "settings": plan.settings,
        "seed": plan.seed,
        "rows": len(rows[0]),
        "updates": training.progress.n_updates,
        **{k: round(v, 1) for k, v in spent.items()},
        "weights": sum(p[0].numel() for p in training.stack.modules()["net"].parameters()),
        "models": judged(alone(training, layout), fresh, plan.seed),
    }


def table(name: str, found: Mapping[str, Any]) -> str:
    """Return the models of one stack as Markdown."""
    models = found["models"]
    first = next(iter(models.values()))
    others = [k for k in first["intervals"] if k not in ("loss", "trivial", *AT_ONCE)]
    others += [k for k in AT_ONCE if k in first]
    head = ["archetype", "matches", "loss", "trivial", "better by", *others]
    lines = [
        f"{name}: {found['updates']} updates, {found.get('cpu_seconds', '-')} CPU s",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    for archetype, one in models.items():
        low, high = one["gain_interval"]
        cells = [
            archetype, str(one["matches"]), f"{one['loss']:.3f}", f"{one['trivial']:.3f}",
            f"{one['gain']:.0%} ({low:.0%} to {high:.0%})",
            *(f"{one[k]:.3f}" for k in others),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", action="append", choices=TYPES, dest="types")
    parser.add_argument("--preset", action="append", choices=get_args(Preset), dest="presets")
    parser.add_argument("--rows", type=int, default=10_000, help="rows an archetype to learn from")
    parser.add_argument("--fresh", type=int, default=10_000, help="rows an archetype to judge by")
    parser.add_argument("--seconds", type=float, default=600.0, help="CPU seconds a stack at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=Path, help="judge the versions in this folder instead")
    parser.add_argument("--set", default="{}", help="settings to change, a JSON object")
    parser.add_argument("--json", action="store_true", help=f"write {RESULTS.name}, too")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, judge and print."""
    options = arguments(argv)
    torch.set_num_threads(1)
    world = ArenaPractice()
    types = options.types or TYPES
    maps = "spatial_vit" in types
    judging = episodes(world, options.fresh, options.seed + FRESH, maps=maps)
    recorded = {} if options.models else episodes(world, options.rows, options.seed, maps=maps)
    fresh = [whole_matches(judging[name]) for name in ARCHETYPES]
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in types:
        for preset in options.presets or ["modern"]:
            if options.models:
                result = measure_versions(name, options.models, world.layout, fresh)
            else:
                plan = make_plan(name, preset, json.loads(options.set), options.seed)
                rows = [recorded[archetype] for archetype in ARCHETYPES]
                result = measure(plan, world.layout, rows, fresh, options.seconds)
            title = f"{name} {result['preset']}"
            found[title] = result
            print(table(title, result), flush=True)
            if options.json:
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
