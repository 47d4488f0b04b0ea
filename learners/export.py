"""Model versions on disk: ONNX with normaliser and mask inside, weights, manifest."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import threading
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.torch import save

from learners.folders import write_folder
from learners.networks import ValueGraph
from learners.settings import Shape
from schemas.records import WindowFile

OPSET = 20
"""The newest that torch's TorchScript exporter writes; every onnxruntime since 1.17 takes it."""

MAX_ERROR = 1e-4
"""Largest difference between ONNX and torch values that passes."""

TIE = 1e-5
"""Two best values nearer than this may swap places without being a disagreement."""

_TRACING = threading.Lock()
"""The exporter keeps its state in globals: one at a time in a process."""

MODEL, WEIGHTS, MANIFEST = "model.onnx", "weights.safetensors", "manifest.json"


class ExportError(RuntimeError):
    """The exported graph does not do what the torch graph does."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parity:
    """How ONNX compares with torch on held-out observations."""

    n: int
    max_error: float
    agreement: float
    """Share of rows with the same greedy action, ties apart."""


class OnnxTemplate:
    """The graph of one architecture, traced once; later versions only get other initialisers.

    The TorchScript exporter takes 0.2 s here and the newer one 13 s; parity is checked at every
    export, so its deprecation costs nothing until it is gone.
    """

    def __init__(self, graph: ValueGraph, shape: Shape) -> None:
        """Trace the graph."""
        buffer = io.BytesIO()
        example = (torch.zeros(2, shape.size), torch.ones(2, shape.n_actions, dtype=torch.bool))
        rows = {0: "batch"}
        with _TRACING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                copy.deepcopy(graph).cpu().eval(), example, buffer,  # type: ignore[arg-type]
                input_names=["observation", "legal"], output_names=["q"],
                dynamic_axes={"observation": rows, "legal": rows, "q": rows},
                opset_version=OPSET, dynamo=False, do_constant_folding=False,
            )  # fmt: skip
        self._model = onnx.load_from_string(buffer.getvalue())
        self._model.producer_name, self._model.producer_version = "grindstone", ""

    def render(self, weights: dict[str, torch.Tensor]) -> bytes:
        """Return the model with these weights; the same weights give the same bytes.

        Raises:
            ExportError: the graph has an initialiser that is none of the weights.
        """
        for initialiser in self._model.graph.initializer:
            name = initialiser.name
            if name not in weights:
                text = f"initialiser {name} must be one of the weights; got {sorted(weights)}"
                raise ExportError(text)
            initialiser.CopyFrom(numpy_helper.from_array(weights[name].numpy(), name))
        data: bytes = self._model.SerializeToString(deterministic=True)
        return data


def check_parity(
    model: bytes,
    expected: NDArray[np.float32],
    observation: NDArray[np.float32],
    legal: NDArray[np.bool_],
) -> Parity:
    """Compare ONNX with torch's values [N, A] on real observations [N, D].

    Raises:
        ExportError: a value differs by more than `MAX_ERROR`, or a greedy action differs.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (got,) = session.run(["q"], {"observation": observation, "legal": legal})
    error = float(np.abs(got - expected).max())
    rows = np.arange(len(expected))
    lost = expected.max(1) - expected[rows, got.argmax(1)]
    parity = Parity(n=len(expected), max_error=error, agreement=float((lost <= TIE).mean()))
    if not error <= MAX_ERROR or parity.agreement < 1.0:
        text = f"exported values must be within {MAX_ERROR} of torch's; got {parity}"
        raise ExportError(text)
    return parity


def weights_of(graph: ValueGraph) -> dict[str, torch.Tensor]:
    """Return the graph's weights on the CPU, contiguous, by name."""
    return {k: v.detach().cpu().contiguous() for k, v in graph.state_dict().items()}


def weights_digest(graph: ValueGraph) -> str:
    """Return the SHA-256 of the weights' file."""
    return hashlib.sha256(save(weights_of(graph))).hexdigest()


def write_version(
    folder: Path, model: bytes, weights: dict[str, torch.Tensor], manifest: dict[str, Any]
) -> list[WindowFile]:
    """Write a version's folder whole or not at all; returns its files, the manifest last."""
    data = {MODEL: model, WEIGHTS: save(weights)}
    files = [file_of(name, content) for name, content in data.items()]
    listed = {file.path: {"sha256": file.sha256, "bytes": file.n_bytes} for file in files}
    encoded = msgspec.json.encode({**manifest, "files": listed}, order="deterministic")
    text = msgspec.json.format(encoded, indent=2)
    write_folder(folder, {**data, MANIFEST: text})
    return [*files, file_of(MANIFEST, text)]


def holds_version(folder: Path, weights: dict[str, torch.Tensor]) -> bool:
    """Return whether a folder is a version with these very weights."""
    try:
        return (folder / WEIGHTS).read_bytes() == save(weights) and (folder / MANIFEST).is_file()
    except OSError:
        return False


def read_files(folder: Path) -> list[WindowFile]:
    """Return the files of a version's folder as `write_version` did."""
    return [file_of(name, (folder / name).read_bytes()) for name in (MODEL, WEIGHTS, MANIFEST)]


def file_of(path: str, data: bytes) -> WindowFile:
    """Return the record of a file."""
    return WindowFile(path=path, n_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
