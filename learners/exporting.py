"""Forms of an exported graph: full, half and 8 bit weights, measured before one is chosen.

A form is judged on real inputs that were held out: how far its outputs are from torch's, how often
it takes the same action, and how long one decision takes. All is kept in the version's manifest.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from learners.export import ExportError, open_session, parity_of

Form = Literal["fp16", "fp32", "int8"]
FORMS: tuple[Form, ...] = ("fp16", "fp32", "int8")

MIN_AGREEMENT: dict[Form, float] = {"fp32": 1.0, "fp16": 0.99, "int8": 0.98}
"""Share of real inputs on which a form must take torch's own action to be chosen."""
MAX_LOSS: dict[Form, float] = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.15}
"""Largest difference of an output, as a share of the outputs' deviation, to be chosen."""
CLEARLY = 1.15
"""How many times as fast as half precision another form must be to be preferred: timings of a
shared machine differ by a tenth."""

APART = 1 << 16
"""Numbers in a member's weights from which 8 bits gain more than a product of its own costs."""

TIMED = 200
"""Decisions timed, one at a time."""
BETWEEN_BYTES = 2 << 20
"""What is read and written between two of them: a game's own work, and other models, have had the
near caches since the last decision."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a form is worth; the manifest keeps one for each."""

    form: Form
    n_bytes: int
    n: int
    """Held-out inputs."""
    max_error: float
    """Largest difference to torch's outputs; of values over 1, their share."""
    loss: float
    """Root mean square of the first output's error over its deviation."""
    agreement: float
    latency_p50_ms: float
    """Of one decision in onnxruntime on one thread."""
    latency_p95_ms: float
    fit: bool
    """Whether it is near enough to torch to be chosen."""


def make_form(full: bytes, form: Form, feeds: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a graph in a form; the same graph and inputs give the same bytes."""
    if form == "fp16":
        return half_weights(full)
    if form == "int8":
        return eight_bits(full, feeds)
    return full


def optimise(model: bytes) -> bytes:
    """Return the graph with constants folded and what does nothing left out, by onnxruntime.

    Its basic level alone: the others make what only this kind of processor runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return _bytes(onnx.load(path))


def half_weights(model: bytes) -> bytes:
    """Return the graph with float32 weights kept as float16 and widened when it is loaded.

    Half the bytes on disk, on the wire and in a card's memory; on processors without half kernels
    the arithmetic stays in float32. What does not fit in float16 stays as it is.
    """
    proto = onnx.load_from_string(model)
    widened = []
    for initialiser in proto.graph.initializer:
        if initialiser.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(initialiser)
        half = values.astype(np.float16)
        if values.ndim < 2 or not np.isfinite(half).all():
            continue  # biases and normalisers are small and their exactness is not
        name = initialiser.name
        initialiser.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        widened.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for node in reversed(widened):
        proto.graph.node.insert(0, node)
    return _bytes(proto)


def eight_bits(model: bytes, feeds: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the graph with products of 8 bit weights and, measured anew each time, inputs.

    Weights use 7 of the 8 bits: without VNNI the processor's sums of pairs overflow otherwise.
    Members of an ensemble are multiplied one by one where that is faster; other weights of more
    than two axes stay as they are: onnxruntime has no kernel for them.
    """
    del feeds
    with tempfile.TemporaryDirectory() as folder, _quiet():
        before, after = Path(folder) / "full.onnx", Path(folder) / "small.onnx"
        folded = _members_apart(optimise(model))
        before.write_bytes(folded)
        quantization.quantize_dynamic(
            before, after, weight_type=quantization.QuantType.QInt8,
            per_channel=True, reduce_range=True, op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=_ensembles(folded),
        )  # fmt: skip
        return _bytes(onnx.load(after))


def _members_apart(model: bytes) -> bytes:
    """Return the graph with a product for each of the M members of large weights [M, D, D']."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    large = {
        i.name: i for i in graph.initializer if len(i.dims) == 3 and i.dims[1] * i.dims[2] >= APART
    }
    leading = {
        info.name: info.type.tensor_type.shape.dim[0].dim_value
        for info in onnx.shape_inference.infer_shapes(proto).graph.value_info
        if len(info.type.tensor_type.shape.dim) == 3
    }
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        weight = large.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or leading.get(node.input[0]) != weight.dims[0]:
            nodes.append(node)
            continue
        n, out = weight.dims[0], node.output[0]
        rows, products = ([f"{out}.{kind}.{i}" for i in range(n)] for kind in ("rows", "member"))
        nodes.append(helper.make_node("Split", [node.input[0]], rows, axis=0, num_outputs=n))
        for i, values in enumerate(numpy_helper.to_array(weight)):
            name = f"{weight.name}.{i}"
            graph.initializer.append(numpy_helper.from_array(values, name))
            nodes.append(helper.make_node("MatMul", [rows[i], name], [products[i]], products[i]))
        nodes.append(helper.make_node("Concat", products, [out], axis=0))
    del graph.node[:]
    graph.node.extend(nodes)
    return _bytes(proto)


def _ensembles(model: bytes) -> list[str]:
    """Return the names of products with weights of more than two axes."""
    graph = onnx.load_from_string(model).graph
    many = {i.name for i in graph.initializer if len(i.dims) > 2}
    return [node.name for node in graph.node if many.intersection(node.input)]


def _bytes(proto: onnx.ModelProto) -> bytes:
    proto.producer_name, proto.producer_version = "grindstone", ""
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser gives advice to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def measure(
    models: Mapping[Form, bytes],
    expected: Sequence[NDArray[Any]],
    feeds: Mapping[str, NDArray[Any]],
    timed: int = TIMED,
) -> list[Measured]:
    """Measure forms beside each other: their decisions are timed in turns."""
    times = latencies({form: model for form, model in models.items()}, feeds, timed)
    found = []
    for form, model in models.items():
        parity = parity_of(model, expected, feeds)
        loss = _loss(model, expected[0], feeds)
        fit = parity.agreement >= MIN_AGREEMENT[form] and loss <= MAX_LOSS[form]
        found.append(
            Measured(
                form=form,
                n_bytes=len(model),
                n=parity.n,
                max_error=parity.max_error,
                loss=loss,
                agreement=parity.agreement,
                latency_p50_ms=median(times[form]),
                latency_p95_ms=float(np.quantile(times[form], 0.95)),
                fit=fit,
            )  # fmt: skip
        )
    return found


def _loss(model: bytes, expected: NDArray[Any], feeds: Mapping[str, NDArray[Any]]) -> float:
    """Return the first output's error over its deviation, what is masked left out."""
    got = open_session(model).run(None, dict(feeds))[0].astype(np.float64)
    real = np.abs(expected) < 1e8
    if not real.any():
        return 0.0
    wrong = np.sqrt(np.square(got[real] - expected[real]).mean())
    return float(wrong / max(float(expected[real].std()), 1e-6))


def latencies(
    models: Mapping[Form, bytes], feeds: Mapping[str, NDArray[Any]], timed: int
) -> dict[Form, list[float]]:
    """Return the milliseconds of single decisions, the forms asked in turns, caches not warm."""
    sessions = {form: open_session(model) for form, model in models.items()}
    n = len(next(iter(feeds.values())))
    one = [{name: values[i : i + 1] for name, values in feeds.items()} for i in range(min(n, 16))]
    found: dict[Form, list[float]] = {form: [] for form in models}
    between = np.zeros(BETWEEN_BYTES // 8)
    for at in range(-10, timed):  # the first ones allocate
        for form, session in sessions.items():
            between += 1.0
            began = time.perf_counter()
            session.run(None, one[at % len(one)])
            if at >= 0:
                found[form].append((time.perf_counter() - began) * 1e3)
    return found


def choose(measured: Sequence[Measured], only: Sequence[Form] = FORMS) -> Measured:
    """Return the form to serve: half precision, unless another is clearly faster.

    Raises:
        ExportError: none that was asked for is near enough to torch.
    """
    fit = {m.form: m for m in measured if m.fit and m.form in only}
    if not fit:
        known = "; ".join(
            f"{m.form}: agreement {m.agreement:.3f}, loss {m.loss:.2g}" for m in measured
        )
        text = f"a form must agree with torch ({MIN_AGREEMENT}, loss {MAX_LOSS}); got {known}"
        raise ExportError(text)
    best = fit.get("fp16") or fit.get("fp32") or next(iter(fit.values()))
    for other in fit.values():
        if other.latency_p50_ms * CLEARLY < best.latency_p50_ms:
            best = other
    return best
