"""Model versions on disk: ONNX with normaliser and mask inside, weights, manifest."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import threading
import warnings
from collections.abc import Mapping, Sequence
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
from torch import nn

from learners.folders import write_folder
from learners.graph_shapes import without_shape_arithmetic
from learners.model_types.base import Port
from schemas.records import WindowFile

OPSET = 20
"""The newest that torch's TorchScript exporter writes; every onnxruntime since 1.17 takes it."""

MAX_ERROR = 1e-4
"""Largest difference between ONNX and torch values that passes; of values over 1, their share."""

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


def as_served(graph: nn.Module) -> nn.Module:
    """Return what is exported of a graph: what its ``served()`` makes of it, or the graph itself.

    It says what the graph says, with what hangs on weights alone worked out before.
    """
    served = getattr(graph, "served", None)
    if served is None:
        return graph
    with torch.no_grad():
        made: nn.Module = served()
    return made


class OnnxTemplate:
    """The graph of one architecture, traced once; later versions only get other initialisers.

    The TorchScript exporter takes 0.2 s here and the newer one 13 s; parity is checked at every
    export, so its deprecation costs nothing until it is gone.
    """

    def __init__(
        self,
        graph: nn.Module,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        feeds: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Trace the graph with ``feeds``, two or more rows, or with ones of the inputs' shapes."""
        buffer = io.BytesIO()
        given = feeds or {p.name: np.ones((2, *(n or 1 for n in p.shape)), p.dtype) for p in inputs}
        example = tuple(torch.from_numpy(given[port.name][:2].copy()) for port in inputs)
        axes = {
            port.name: {0: "batch"}
            | {1 + i: f"{port.name}_{i}" for i, n in enumerate(port.shape) if n is None}
            for port in [*inputs, *outputs]
        }
        with _TRACING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _with_unlike_weights(graph), example, buffer,  # type: ignore[arg-type]
                input_names=[p.name for p in inputs], output_names=[p.name for p in outputs],
                dynamic_axes=axes,
                opset_version=OPSET, dynamo=False, do_constant_folding=False,
            )  # fmt: skip
        traced = onnx.load_from_string(buffer.getvalue())
        self._model = without_shape_arithmetic(traced, inputs, outputs, given)
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


def _with_unlike_weights(graph: nn.Module) -> nn.Module:
    """Return a copy in which no two weights are alike.

    The exporter makes one initialiser of those that are, as fresh normalisations, and what another
    version has learned of each of them would be lost.
    """
    made = copy.deepcopy(graph).cpu().eval()
    for i, weight in enumerate(made.state_dict().values()):
        if weight.is_floating_point():
            weight.copy_(torch.linspace(i + 1, i + 2, weight.numel()).view_as(weight))
    return made


def open_session(model: bytes) -> Any:
    """Return an onnxruntime session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def parity_of(
    model: bytes, expected: Sequence[NDArray[Any]], feeds: Mapping[str, NDArray[Any]]
) -> Parity:
    """Compare ONNX with torch's outputs on real inputs, whatever comes of it.

    An action is the place of the first output's largest value; an output of one number has none.
    """
    got = open_session(model).run(None, dict(feeds))
    error = 0.0
    for ours, theirs in zip(got, expected, strict=True):
        size = np.maximum(1.0, np.abs(theirs.astype(np.float64)))
        error = max(error, float((np.abs(ours.astype(np.float64) - theirs) / size).max(initial=0)))
    return Parity(
        n=len(expected[0]), max_error=error, agreement=_agreement(got[0], np.asarray(expected[0]))
    )


def _agreement(got: NDArray[Any], expected: NDArray[Any]) -> float:
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return 1.0
    chosen = got.argmax(-1)[..., None]
    lost = expected.max(-1) - np.take_along_axis(expected, chosen, -1)[..., 0]
    return float((lost <= TIE).mean())


def check_parity(
    model: bytes, expected: Sequence[NDArray[Any]], feeds: Mapping[str, NDArray[Any]]
) -> Parity:
    """Compare ONNX with torch's outputs on real inputs.

    Raises:
        ExportError: a value differs by more than `MAX_ERROR`, or a greedy action differs.
    """
    parity = parity_of(model, expected, feeds)
    if not parity.max_error <= MAX_ERROR or parity.agreement < 1.0:
        text = f"exported values must be within {MAX_ERROR} of torch's; got {parity}"
        raise ExportError(text)
    return parity


def outputs_of(graph: nn.Module, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return what a graph gives for inputs in its own order."""
    with torch.no_grad():
        found = graph(*(torch.from_numpy(values) for values in feeds.values()))
    return [t.numpy() for t in (found if isinstance(found, tuple) else (found,))]


def weights_of(graph: nn.Module) -> dict[str, torch.Tensor]:
    """Return the graph's weights on the CPU, contiguous, by name."""
    return {k: v.detach().cpu().contiguous() for k, v in graph.state_dict().items()}


def weights_digest(graph: nn.Module) -> str:
    """Return the SHA-256 of the weights' file."""
    return hashlib.sha256(save(weights_of(graph))).hexdigest()


def write_version(
    folder: Path,
    model: bytes,
    weights: dict[str, torch.Tensor],
    manifest: dict[str, Any],
    more: Mapping[str, bytes] | None = None,
) -> list[WindowFile]:
    """Write a version's folder whole or not at all; returns its files, the manifest last.

    ``more`` are further files by name.
    """
    data = {MODEL: model, WEIGHTS: save(weights), **(more or {})}
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
