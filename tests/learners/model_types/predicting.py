"""Small settings of the predicting types for the toy world, and what their tests share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from learners.export import OnnxTemplate, as_served, open_session, weights_of
from learners.model_types.base import TypeSettings
from learners.model_types.pattern_recognition import PatternSettings
from learners.model_types.registry import model_type
from learners.model_types.spatial_vit import VitSettings
from learners.model_types.supervised import SupervisedStack
from learners.model_types.temporal_transformer import TemporalSettings
from learners.model_types.threat_assessment import ThreatSettings
from schemas.practice import Episodes, split_by_match
from tests.learners.model_types.toy import ToyLayout, toy_episodes

SMALL: dict[str, TypeSettings] = {
    "threat_assessment": ThreatSettings(
        hidden=(16, 16), members=2, batch=64, learning_rate=5e-3, updates=120, horizon=1, warm_up=0
    ),
    "spatial_vit": VitSettings(
        width=16, depth=1, heads=2, inner=2, batch=32, learning_rate=5e-3, updates=80, warm_up=0
    ),
    "temporal_transformer": TemporalSettings(
        width=16, depth=2, heads=2, inner=2, batch=16, learning_rate=5e-3, updates=120,
        segment=4, memory=6, segments=3, horizon=1, dropout=0.0, warm_up=0,
    ),
    "pattern_recognition": PatternSettings(
        width=16, depth=1, heads=2, inner=2, batch=32, learning_rate=3e-3, updates=150,
        window=8, least_window=8, dropout=0.0, embedding=8, contrast=0.2, noise=0.1,
        weight_decay=0.1, warm_up=0,
    ),
}  # fmt: skip
"""A setting of every predicting type with which the toy is learned in a few seconds."""


def toy_rows(n_models: int = 2, n_matches: int = 60) -> tuple[list[Episodes], list[Episodes]]:
    """Rows of each model to learn from and to be judged by."""
    pairs = [split_by_match(toy_episodes(n_matches, seed), 0.25) for seed in range(n_models)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def made(name: str, seeds: Sequence[int] = (3, 4), **changes: Any) -> SupervisedStack:
    """A new stack with the small settings, on the CPU."""
    settings = msgspec.structs.replace(SMALL[name], **changes)
    rates = [1.0] * len(seeds)
    stack = model_type(name).make(settings, ToyLayout(), seeds, rates, torch.device("cpu"))
    assert isinstance(stack, SupervisedStack)
    return stack


def exported(stack: SupervisedStack, name: str, i: int, rows: Episodes) -> Any:
    """Model i in ONNX as a version holds it: traced once, of model 0, then given i's weights."""
    kind, layout = model_type(name), ToyLayout()
    feeds = stack.feeds(rows, 4)
    first, served = as_served(stack.graph(0)), as_served(stack.graph(i))
    template = OnnxTemplate(first, kind.inputs(layout), kind.outputs(layout), feeds)
    return open_session(template.render(weights_of(served)))


def assert_parity(session: Any, graph: nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        expected = graph(*inputs.values())
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5, rtol=1e-4)
