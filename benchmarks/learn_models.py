"""Graphs of all model types as a training exports them, with real inputs from the arena.

Weights are fresh: how long a graph takes does not depend on what it has learned.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from games.arena.practice import ArenaPractice
from games.arena.record import episodes
from learners.export import OnnxTemplate, as_served, open_session, weights_of
from learners.model_types.base import Port, Preset
from learners.model_types.registry import model_type
from schemas.practice import ARCHETYPES, Episodes

N_ROWS = 512
N_FEEDS = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Exported:
    """One model."""

    type: str
    graph: nn.Module
    """Torch's own."""
    full: bytes
    """ONNX in float32."""
    feeds: dict[str, NDArray[Any]]
    """Real inputs [B, ...] of one decision each, in the order of the graph's."""

    def one(self, i: int) -> dict[str, NDArray[Any]]:
        """Return input i alone, as a batch of one."""
        return {name: values[i : i + 1] for name, values in self.feeds.items()}


@functools.cache
def recorded() -> Episodes:
    """Return rows of one archetype."""
    name = ARCHETYPES[0]
    return episodes(ArenaPractice([name]), N_ROWS, maps=True)[name]


@functools.cache
def exported(type_name: str, preset: Preset) -> Exported:
    """Return a model of a type, made alone: a stack of six of the largest ones is large."""
    kind, layout = model_type(type_name), ArenaPractice().layout
    inputs, outputs = kind.inputs(layout), kind.outputs(layout)
    stack = kind.make(kind.preset(preset), layout, [0], [1.0], torch.device("cpu"))
    stack.fit([recorded()])
    graph = stack.graph(0)
    found = stack.feeds(recorded(), N_FEEDS)
    feeds = {p.name: np.ascontiguousarray(found[p.name]) for p in inputs}
    served = as_served(graph)
    full = OnnxTemplate(served, inputs, outputs, feeds).render(weights_of(served))
    return Exported(type_name, graph, full, next_step(feeds, full, inputs, outputs))


def next_step(
    feeds: dict[str, NDArray[Any]], full: bytes, inputs: Sequence[Port], outputs: Sequence[Port]
) -> dict[str, NDArray[Any]]:
    """Return what is asked next: of a graph that carries a state, one step with that state."""
    states = {p.name for p in inputs} & {p.name.removeprefix("next_") for p in outputs}
    if not states:
        return feeds
    given = dict(zip([p.name for p in outputs], open_session(full).run(None, feeds), strict=True))
    found = {}
    for port in inputs:
        if port.name in states:
            found[port.name] = given[f"next_{port.name}"]
        elif port.shape and port.shape[0] is None:
            found[port.name] = np.ascontiguousarray(feeds[port.name][:, -1:])
        else:
            found[port.name] = feeds[port.name]
    return found
