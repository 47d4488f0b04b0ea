"""Graphs without arithmetic on shapes do what they did, at every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional

from learners.export import OnnxTemplate, check_parity, outputs_of, weights_of
from learners.graph_shapes import without_shape_arithmetic
from learners.model_types.base import Port
from learners.stack.attention import RelativeBlock, sinusoids
from learners.stack.layers import unstack

INPUTS = [Port("steps", (None, 8)), Port("memory", (None, 8))]
OUTPUTS = [Port("values", (None, 8)), Port("next_memory", (None, 8))]


class Remembering(nn.Module):
    """Splits heads, expands, slices, counts: all that makes a trace work on shapes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(unstack(RelativeBlock(1, 8, 2, 16), 0) for _ in range(2))

    def forward(self, steps: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, ...]:
        n_steps, n_kept = steps.shape[1], memory.shape[1]
        key, query = torch.arange(n_kept + n_steps), torch.arange(n_steps)[:, None] + n_kept
        allowed = (key <= query).expand(steps.shape[0], n_steps, n_kept + n_steps)
        x = steps + sinusoids(n_steps, 8, steps)
        twice = x.expand(2, *x.shape).mean(0)
        for block in self.blocks:
            twice = block(twice, memory, allowed)
        return functional.gelu(twice), torch.cat([memory, x], 1)[:, -n_kept:]


def inputs(n_rows: int, n_steps: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(n_rows + 10 * n_steps)
    return {
        "steps": rng.normal(size=(n_rows, n_steps, 8)).astype(np.float32),
        "memory": rng.normal(size=(n_rows, 3, 8)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def graph() -> Remembering:
    return Remembering().eval()


@pytest.fixture(scope="module")
def model(graph: Remembering) -> bytes:
    return OnnxTemplate(graph, INPUTS, OUTPUTS, inputs(2, 4)).render(weights_of(graph))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 3), (4, 5), (9, 2), (2, 16)])
def test_graph_takes_any_rows_and_steps(
    graph: Remembering, model: bytes, size: tuple[int, int]
) -> None:
    feeds = inputs(*size)
    check_parity(model, outputs_of(graph, feeds), feeds)


def test_most_arithmetic_on_shapes_is_gone(model: bytes) -> None:
    nodes = [node.op_type for node in onnx.load_from_string(model).graph.node]
    assert nodes.count("Shape") <= 12  # of 50: what follows the number of steps remains
    assert nodes.count("Sin") == 2  # of 3: the steps' own, and one of all distances for both layers


def test_names_of_inputs_and_outputs_stay(model: bytes) -> None:
    graph = onnx.load_from_string(model).graph
    assert [i.name for i in graph.input] == ["steps", "memory"]
    assert [o.name for o in graph.output] == ["values", "next_memory"]


def test_graph_with_a_branch_stays_as_it_is() -> None:
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 8])
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "b", [], [value])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 8]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    traced = helper.make_model(helper.make_graph([choice], "g", given, [value]))
    ports = [Port("x", (8,)), Port("c", (), "bool")]
    assert without_shape_arithmetic(traced, ports, [Port("y", (8,))], {}) is traced
