"""All 54 models loaded in one process and asked in rotation, one decision each, and their memory.

    make bench-learn ARGS="--parts rotation"

Six archetypes of nine types, each with its own copy of the weights (fresh ones, the same for the
six), in sessions as games and exports open them. Whoever is asked next was asked 54 decisions ago:
its weights are not in the nearest caches.
Every preset and form has a process of its own; its memory is what it grows by while loading and
while being asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learn import target
from benchmarks.learn_models import exported
from benchmarks.learn_timing import resident
from learners.export import open_session
from learners.exporting import Form, make_form
from learners.model_types.base import Preset
from learners.model_types.registry import names
from schemas.practice import ARCHETYPES

KINDS: list[tuple[Preset, list[Form]]] = [
    ("modern", ["fp32", "fp16", "int8"]), ("classic", ["fp16"])
]  # fmt: skip
TURNS = {"modern": 20, "classic": 3}
"""Rotations a round: each asks all 54 models once."""
N_FEEDS = 8
"""Different inputs of each model, taken in turn."""


def write(folder: Path, preset: Preset, forms: list[Form]) -> None:
    """Write all models of a preset, each form into a folder of its own."""
    for form in forms:
        (folder / form).mkdir()
        for name in names():
            model = exported(name, preset)
            data = make_form(model.full, form, model.feeds)
            arrays: dict[str, Any] = {k: v[:N_FEEDS] for k, v in model.feeds.items()}
            first = folder / form / f"{ARCHETYPES[0]}-{name}"
            first.with_suffix(".onnx").write_bytes(data)
            np.savez(first.with_suffix(".npz"), **arrays)
            for archetype in ARCHETYPES[1:]:
                for kind in (".onnx", ".npz"):
                    other = folder / form / f"{archetype}-{name}{kind}"
                    other.hardlink_to(first.with_suffix(kind))


def ask(folder: Path, n_turns: int) -> dict[str, Any]:
    """Load all models of a folder and ask them in rotation; runs in a process of its own."""
    files = sorted(folder.glob("*.onnx"))  # archetype by archetype: the types take turns
    feeds = []
    for file in files:
        arrays = dict(np.load(file.with_suffix(".npz")))
        feeds.append([{k: v[i : i + 1] for k, v in arrays.items()} for i in range(N_FEEDS)])
    before = resident()
    begun = time.process_time()
    sessions = [open_session(file.read_bytes()) for file in files]
    load_s = time.process_time() - begun
    loaded = resident() - before
    cpu, wall = np.zeros((n_turns, len(files))), np.zeros((n_turns, len(files)))
    for turn in range(-2, n_turns):
        for i, session in enumerate(sessions):
            one = feeds[i][turn % N_FEEDS]
            begun_wall, begun_cpu = time.perf_counter_ns(), time.thread_time_ns()
            session.run(None, one)
            if turn >= 0:
                cpu[turn, i] = (time.thread_time_ns() - begun_cpu) / 1e6
                wall[turn, i] = (time.perf_counter_ns() - begun_wall) / 1e6
    return {
        "n": len(files), "load_s": load_s, "loaded": loaded, "asked": resident() - before,
        "files": sum(file.stat().st_size for file in files),
        "cpu": np.quantile(cpu, [0.5, 0.95]).tolist(),
        "wall": np.quantile(wall, [0.5, 0.95]).tolist(),
        "types": {
            name: float(np.median(cpu[:, [f.stem.endswith(f"-{name}") for f in files]]))
            for name in names()
        },
    }  # fmt: skip


def asked(folder: Path, n_turns: int) -> dict[str, Any]:
    """Return what a fresh process measures."""
    command = [sys.executable, "-m", "benchmarks.learn_rotation", str(folder), str(n_turns)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(rounds: int) -> dict[str, Any]:
    """Return latencies, memory and targets."""
    rows, targets, types = [], [], {}
    for preset, forms in KINDS:
        with tempfile.TemporaryDirectory(prefix="bench-learn-") as kept:
            write(Path(kept), preset, forms)
            for form in forms:
                found = asked(Path(kept) / form, rounds * TURNS[preset])
                rows.append({
                    "preset": preset, "form": form, "models": found["n"],
                    "p50 ms": round(found["cpu"][0], 3), "p95 ms": round(found["cpu"][1], 3),
                    "p95 wall ms": round(found["wall"][1], 3),
                    "files MB": round(found["files"] / 1e6, 1),
                    "loaded MB": round(found["loaded"] / 1e6, 1),
                    "asked MB": round(found["asked"] / 1e6, 1),
                    "loading s": round(found["load_s"], 2),
                })  # fmt: skip
                types[f"{preset}, {form}"] = {k: round(v, 3) for k, v in found["types"].items()}
                targets.append(target(
                    f"p95 ms of a decision, {preset}, {form}", found["cpu"][1], "at most", 0.5
                ))  # fmt: skip
    return {"rows": rows, "targets": targets, "median ms by type": types}


if __name__ == "__main__":
    print(json.dumps(ask(Path(sys.argv[1]), int(sys.argv[2]))))
