"""Small ONNX networks and model folders for tests, made without torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from games.battle.world import N_ACTIONS, OBSERVATION_SIZE
from schemas.records import WindowFile


def linear_graph(
    weights: NDArray[np.float32],
    observation: str = "observation",
    values: str = "q",
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """A graph of `q = observation @ weights` with the mask, as a model's bytes."""
    n_in, n_out = weights.shape
    nodes = [
        helper.make_node("MatMul", [observation, "w"], ["raw"]),
        helper.make_node("Where", ["legal", "raw", "never"], [values]),
    ]
    inputs: list[Any] = [
        helper.make_tensor_value_info(observation, kind, ["B", n_in]),
        helper.make_tensor_value_info("legal", TensorProto.BOOL, ["B", n_out]),
    ]
    output = helper.make_tensor_value_info(values, kind, ["B", n_out])
    dtype = np.float32 if kind == TensorProto.FLOAT else np.float64
    held = [
        numpy_helper.from_array(weights.astype(dtype), "w"),
        numpy_helper.from_array(np.array(-1e9, dtype=dtype), "never"),
    ]
    graph = helper.make_graph(nodes, "policy", inputs, [output], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def battle_graph(seed: int = 0) -> bytes:
    """A graph of the battle's shapes with seeded weights."""
    rng = np.random.default_rng(seed)
    return linear_graph(rng.normal(size=(OBSERVATION_SIZE, N_ACTIONS)).astype(np.float32))


def write_model(folder: Path, graph: bytes) -> list[WindowFile]:
    """Writes a version's folder and returns what an event would say of its files."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"model.onnx": graph, "weights.safetensors": b"weights"}
    listed = {}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        listed[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps({"version": folder.name, "files": listed}))
    return [
        WindowFile(
            path=f"{folder.parent.name}/{folder.name}/{name}",
            n_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        for name, content in contents.items()
    ]
