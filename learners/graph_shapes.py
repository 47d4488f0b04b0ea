"""Takes the arithmetic on shapes out of a traced graph: two thirds of a small graph's nodes.

A trace writes out how every shape was worked out from the inputs' sizes, and onnxruntime works it
out anew at every decision. Here the graph is run on inputs of several sizes; what a shape makes of
them says which of its numbers are fixed and which follow the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, helper, numpy_helper

from learners.model_types.base import Port

SIZES = ((1, 1), (2, 3), (3, 2), (5, 4))
"""Rows and steps of the inputs that are tried; no two sizes go together in all of them."""

Found = list[NDArray[Any]]
"""A tensor's value for each of the inputs tried."""


def without_shape_arithmetic(
    model: onnx.ModelProto,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    feeds: Mapping[str, NDArray[Any]],
) -> onnx.ModelProto:
    """Return a graph that does the same with fixed shapes, as far as they can be fixed.

    Rows and steps stay free. Sizes of states that are carried (``x`` to ``next_x``) become fixed.
    A graph with loops or branches is returned as it is.
    """
    graph = model.graph
    if any(a.type == AttributeProto.GRAPH for node in graph.node for a in node.attribute):
        return model
    derived = _derived(graph)
    wanted = _wanted(graph, derived)
    if not wanted:
        return model
    probes = [_probe(inputs, outputs, feeds, *sizes) for sizes in SIZES]
    found = _values(model, wanted, probes)
    replaced: dict[tuple[int, int], NDArray[Any] | str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for i, node in enumerate(graph.node):
        for k, name in enumerate(node.input):
            if name not in derived or node.output[0] in derived:
                continue
            fixed = _fixed(node, k, found)
            # What is equal in all runs is worked out once, as the positions of every layer.
            same = tuple((v.dtype.str, v.shape, v.tobytes()) for v in found[name])
            replaced[i, k] = first.setdefault(same, name) if fixed is None else fixed
    return _rewritten(model, replaced)


def _derived(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that hang on shapes and constants alone."""
    derived: set[str] = set()
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type in ("Shape", "Constant") or (inputs and derived.issuperset(inputs)):
            derived.update(node.output)
    return derived


def _wanted(graph: onnx.GraphProto, derived: set[str]) -> list[str]:
    """Return the derived tensors that other nodes take, and what those nodes shape."""
    wanted: dict[str, None] = {}
    for node in graph.node:
        if node.output[0] in derived:
            continue
        for name in node.input:
            if name in derived:
                wanted[name] = None
                if node.op_type in ("Reshape", "Expand"):
                    wanted[node.input[0]] = None
    return list(wanted)


def _probe(
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    feeds: Mapping[str, NDArray[Any]],
    n_rows: int,
    n_steps: int,
) -> dict[str, NDArray[Any]]:
    """Return inputs of so many rows and steps: the first row's first step over and over."""
    carried = {port.name.removeprefix("next_") for port in outputs}
    probe = {}
    for port in inputs:
        values = feeds[port.name][:1]
        if port.shape and port.shape[0] is None and port.name not in carried:
            values = np.repeat(values[:, :1], n_steps, 1)
        probe[port.name] = np.repeat(values, n_rows, 0)
    return probe


def _values(
    model: onnx.ModelProto, wanted: Sequence[str], probes: Sequence[Mapping[str, NDArray[Any]]]
) -> dict[str, Found]:
    """Return the values of tensors for each probe."""
    told = onnx.ModelProto()
    told.CopyFrom(model)
    del told.graph.output[:]
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        told.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    taken = {i.name for i in session.get_inputs()}
    runs = [session.run(None, {k: v for k, v in p.items() if k in taken}) for p in probes]
    return {name: [run[i] for run in runs] for i, name in enumerate(wanted)}


def _fixed(node: NodeProto, k: int, found: Mapping[str, Found]) -> NDArray[Any] | None:
    """Return what input ``k`` of a node may be fixed to, or None."""
    values = found[node.input[k]]
    if all(v.shape == values[0].shape and np.array_equal(v, values[0]) for v in values):
        return values[0]
    if k != 1 or node.op_type not in ("Reshape", "Expand"):
        return None
    given = [v.shape for v in found[node.input[0]]]
    wanted = np.stack(values)
    same = (wanted == wanted[0]).all(0)
    if node.op_type == "Expand":
        return _fixed_expand(wanted, given, same)
    shape: NDArray[Any] = np.where(same, wanted[0], -1)
    for j in np.flatnonzero(~same):
        if all(j < len(s) and s[j] == w for s, w in zip(given, wanted[:, j], strict=True)):
            shape[j] = 0  # as it was
    return shape if (shape == -1).sum() <= 1 and not (wanted == 0).any() else None


def _fixed_expand(
    wanted: NDArray[Any], given: Sequence[tuple[int, ...]], same: NDArray[np.bool_]
) -> NDArray[Any] | None:
    """Return a shape to expand to: 1 leaves a size as it is."""
    shape: NDArray[Any] = wanted[0].copy()
    n = wanted.shape[1]
    for j in np.flatnonzero(~same):
        at = j - n
        if not all(-at <= len(s) and s[at] == w for s, w in zip(given, wanted[:, j], strict=True)):
            return None
        shape[j] = 1
    return shape


def _rewritten(
    model: onnx.ModelProto, replaced: Mapping[tuple[int, int], NDArray[Any] | str]
) -> onnx.ModelProto:
    """Return the graph with constants, or other tensors, in these places.

    Nodes that nobody asks any more are gone.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants: dict[tuple[str, tuple[int, ...], bytes], NodeProto] = {}
    for (i, k), value in replaced.items():
        if isinstance(value, str):
            made.graph.node[i].input[k] = value
            continue
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in constants:
            name = f"fixed.{len(constants)}"
            tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape))
            constants[key] = helper.make_node("Constant", [], [name], name=name, value=tensor)
        made.graph.node[i].input[k] = constants[key].output[0]
    nodes = [*constants.values(), *made.graph.node]
    asked = {output.name for output in made.graph.output}
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if asked.intersection(node.output):
            asked.update(node.input)
            kept.append(node)
    kept.reverse()
    del made.graph.node[:]
    made.graph.node.extend(kept)
    del made.graph.value_info[:]
    return made
