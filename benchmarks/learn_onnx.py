"""One decision in onnxruntime beside torch eager, for every model type.

    make bench-learn ARGS="--parts onnx"

Batch of one, numpy arrays in and out, one thread. Torch runs the plain graph that was exported, in
inference mode. Forms are those of `learners.exporting`: float32, weights kept as float16 (widened
when loaded: the arithmetic is float32's), and 8 bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.learn import target
from benchmarks.learn_models import Exported, exported
from benchmarks.learn_timing import by_turns
from learners.export import open_session
from learners.exporting import FORMS, Form, make_form
from learners.model_types.base import Preset
from learners.model_types.registry import names

PRESETS: tuple[Preset, ...] = ("modern", "classic")
ROUND_S = 0.04
"""CPU seconds that a contender gets in a round, or one call."""
NAMES: dict[Form, str] = {"fp32": "ONNX FP32", "fp16": "ONNX FP16", "int8": "ONNX INT8"}


def torch_call(model: Exported) -> Callable[[], object]:
    """Return a decision by torch."""
    arrays, graph = list(model.one(0).values()), model.graph

    def call() -> list[np.ndarray[Any, Any]]:
        with torch.inference_mode():
            return [t.numpy() for t in graph(*(torch.from_numpy(a) for a in arrays))]

    return call


def onnx_call(model: Exported, data: bytes) -> Callable[[], object]:
    """Return a decision by onnxruntime."""
    session, feeds = open_session(data), model.one(0)
    return lambda: session.run(None, feeds)


def measure_model(model: Exported, preset: Preset, rounds: int) -> dict[str, Any]:
    """Return one row of the table."""
    calls: dict[str, Callable[[], object]] = {"torch eager": torch_call(model)}
    for form in FORMS:
        calls[NAMES[form]] = onnx_call(model, make_form(model.full, form, model.feeds))
    calls["torch eager"]()
    begun = time.process_time()
    calls["torch eager"]()
    n = max(1, min(400, math.ceil(ROUND_S / max(time.process_time() - begun, 1e-6))))
    spent = by_turns(calls, n, rounds, warm=min(n, 20))
    row: dict[str, Any] = {
        "model": model.type,
        "preset": preset,
        "MB": round(len(model.full) / 1e6, 1),
    }
    eager = spent["torch eager"]
    for name, us in spent.items():
        row[f"{name}, us"] = round(us, 1)
    for form in ("fp32", "int8"):
        row[f"{NAMES[form]}, times"] = round(eager / spent[NAMES[form]], 2)
    return row


def measure(rounds: int) -> dict[str, Any]:
    """Return times and targets."""
    rows = []
    for preset in PRESETS:
        for name in names():
            model = exported(name, preset)
            rows.append(measure_model(model, preset, rounds))
    targets = []
    for preset in PRESETS:
        for name, limit in (("ONNX FP32", 2.0), ("ONNX INT8", 4.0)):
            times = [float(row[f"{name}, times"]) for row in rows if row["preset"] == preset]
            targets += [
                target(f"{name} over torch eager, {preset}, {what} of nine types", value,
                       "at least", limit)
                for what, value in (("median", median(times)), ("least", min(times)))
            ]  # fmt: skip
    return {"rows": rows, "targets": targets}
