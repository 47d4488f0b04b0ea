"""The predicting types on the arena's rows: held-out loss beside the trivial predictor's.

Records scripted play for each of the six archetypes, trains them as one stack for a number of CPU
seconds or to the preset's last update, judges on the newest matches and prints the best judgement
of each model, as a training keeps it.

    python -m benchmarks.predictors --type spatial_vit --preset modern --seconds 300 --json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import torch

from games.arena.practice import ArenaPractice
from games.arena.record import episodes
from learners.model_types.base import Preset, TypeSettings
from learners.model_types.registry import model_type
from schemas.practice import ARCHETYPES, Episodes, Layout, split_by_match

TYPES = ("threat_assessment", "spatial_vit", "temporal_transformer", "pattern_recognition")
RESULTS = Path(__file__).parent / "results" / "predictors.json"
N_LOOKS = 10
"""Judgements in a training."""


def train(
    name: str,
    settings: TypeSettings,
    layout: Layout,
    rows: Sequence[Episodes],
    seconds: float,
) -> dict[str, Any]:
    """Return best judgements by archetype, CPU seconds and updates of one stack."""
    learn, judged = zip(*(split_by_match(one, 0.2) for one in rows), strict=True)
    seeds = range(len(rows))
    stack = model_type(name).make(
        settings, layout, list(seeds), [1.0 for _ in seeds], torch.device("cpu")
    )
    start = time.process_time()
    stack.fit(learn)
    best: list[dict[str, float]] = [{"loss": np.inf} for _ in rows]
    looks = np.linspace(0, 1, N_LOOKS + 1)[1:]
    n, share = 0, 0.0
    while share < 1.0:
        stack.update()
        n += 1
        spent = time.process_time() - start
        share = max(n / settings.updates, spent / seconds)
        if share >= looks[0]:
            looks = looks[looks > share]
            found = stack.judge(judged)
            for i in seeds:
                if found["loss"][i] < best[i]["loss"]:
                    best[i] = {"update": n, **{k: float(v[i]) for k, v in found.items()}}
            print(f"{name}: {n} updates, {spent:.0f} s", file=sys.stderr)
    return {
        "updates": n,
        "cpu_seconds": round(time.process_time() - start, 1),
        "weights": sum(p[0].numel() for p in stack.modules()["net"].parameters()),
        "models": dict(zip(ARCHETYPES, best, strict=True)),
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", action="append", choices=TYPES, dest="types")
    parser.add_argument("--preset", action="append", choices=get_args(Preset), dest="presets")
    parser.add_argument("--rows", type=int, default=10_000, help="rows an archetype")
    parser.add_argument("--seconds", type=float, default=300.0, help="CPU seconds a stack at most")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--set", default="{}", help="settings to change, a JSON object")
    parser.add_argument("--json", action="store_true", help=f"write {RESULTS.name}, too")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, judge and print."""
    options = arguments(argv)
    torch.set_num_threads(1)
    world = ArenaPractice()
    recorded = episodes(world, options.rows, options.seed, maps=True)
    rows = [recorded[name] for name in ARCHETYPES]
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.types or TYPES:
        for preset in options.presets or ["modern"]:
            settings = model_type(name).preset(preset)
            raw = {**msgspec.to_builtins(settings), **json.loads(options.set)}
            settings = msgspec.convert(raw, type(settings))
            result = train(name, settings, world.layout, rows, options.seconds)
            found[f"{name} {preset}"] = {"rows": options.rows, **result}
            print(f"{name} {preset}: {result['updates']} updates, {result['cpu_seconds']} CPU s")
            for archetype, one in result["models"].items():
                shown = ", ".join(f"{k} {v:.3f}" for k, v in one.items() if k != "update")
                print(f"  {archetype:10} {1 - one['loss'] / one['trivial']:+.2f}  {shown}")
            if options.json:
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
