"""Graphs as they are served: what is worked out before, taken apart or in 8 bits says the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from learners.export import OnnxTemplate, as_served, check_parity, outputs_of, parity_of, weights_of
from learners.exporting import eight_bits
from learners.model_types.base import Port
from learners.model_types.registry import model_type
from learners.stack.layers import LayerNorm, unstack
from tests.learners.model_types.predicting import made, toy_rows
from tests.learners.model_types.test_predictor_graphs import inputs_of
from tests.learners.model_types.toy import ToyLayout


def stirred(graph: nn.Module) -> nn.Module:
    """The graph with no weight where it began: gains of 1 and offsets of 0 hide mistakes."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in graph.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=rng))
    return graph


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 1), (2, 5), (2, 9)])
@pytest.mark.parametrize("filled", [0, 2, 6])
def test_served_transformer_says_what_torch_says(batch: int, steps: int, filled: int) -> None:
    learn, _ = toy_rows(n_matches=4)
    stack = made("temporal_transformer")  # remembers 6 steps
    stack.fit(learn)
    graph = stirred(stack.graph(0))
    inputs = inputs_of("temporal_transformer", batch, steps, seed=steps)
    inputs["enemies"][0, 0] = 0.0  # all are dead
    inputs["filled"][:] = filled
    with torch.no_grad():
        wanted, found = graph(*inputs.values()), as_served(graph)(*inputs.values())
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_members_are_multiplied_one_by_one_in_eight_bits() -> None:
    learn, judge = toy_rows(n_matches=6)
    stack = made("threat_assessment", hidden=(256, 256), members=3)
    stack.fit(learn)
    kind, layout, graph = model_type("threat_assessment"), ToyLayout(), stack.graph(0)
    feeds = stack.feeds(judge[0], 32)
    template = OnnxTemplate(graph, kind.inputs(layout), kind.outputs(layout), feeds)
    full = template.render(weights_of(graph))
    small = eight_bits(full, feeds)
    assert small == eight_bits(full, feeds)
    nodes = [node.op_type for node in onnx.load_from_string(small).graph.node]
    assert nodes.count("MatMulInteger") == 3
    assert len(small) < 0.4 * len(full)
    assert parity_of(small, outputs_of(graph, feeds), feeds).max_error < 0.01


class _Normal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = unstack(LayerNorm(1, 4), 0), unstack(LayerNorm(1, 4), 0)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.two(torch.relu(self.one(x))),)


def test_template_of_fresh_weights_tells_equal_ones_apart() -> None:
    fresh, later = _Normal(), stirred(_Normal())
    template = OnnxTemplate(fresh, [Port("x", (4,))], [Port("y", (4,))])
    model = template.render(weights_of(later))
    feeds: dict[str, NDArray[Any]] = {
        "x": np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    }
    check_parity(model, outputs_of(later, feeds), feeds)
