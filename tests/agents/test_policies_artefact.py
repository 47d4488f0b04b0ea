"""A model folder is served as it was announced, or refused with the file and the rule."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from agents.policies import OnnxPolicy, PolicyError
from tests.games.nets import battle_graph, linear_graph, write_model

WEIGHTS = np.random.default_rng(0).normal(size=(845, 21)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "battle-pack" / "v0007", battle_graph())
    return tmp_path / "battle-pack" / "v0007"


def edit_manifest(folder: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document["files"])
    path.write_text(json.dumps(document))


def swap_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_onnx_policy_loads_and_takes_the_best_legal_action(folder: Path) -> None:
    policy = OnnxPolicy.load(folder)
    assert (policy.version, policy.n_observation, policy.n_actions) == ("v0007", 845, 21)
    rng = np.random.default_rng(1)
    seen = rng.random((50, 845)).astype(np.float32)
    legal = rng.random((50, 21)) < 0.3
    legal[:, 6] = True
    expected = np.where(legal, policy.values(seen, legal), -np.inf).argmax(axis=1)
    choice = policy.act(seen, legal, rng)
    assert (choice.actions == expected).all()
    assert (choice.propensities == 1).all()
    assert not choice.explored.any()


def test_onnx_policy_with_another_epsilon_leaves_the_first_alone(folder: Path) -> None:
    policy = OnnxPolicy.load(folder, epsilon=0.5)
    assert policy.with_epsilon(0.0).epsilon == 0.0
    assert policy.epsilon == 0.5
    with pytest.raises(ValueError, match="epsilon"):
        policy.with_epsilon(2.0)


def test_onnx_policy_refuses_the_shapes_of_another_game(folder: Path) -> None:
    policy = OnnxPolicy.load(folder)
    assert policy.require(845, 21) is policy
    with pytest.raises(PolicyError, match="must be a graph of 10 numbers to 4 actions; got 845"):
        policy.require(10, 4)


def test_onnx_policy_refuses_a_network_that_answers_nan(folder: Path) -> None:
    policy = OnnxPolicy(linear_graph(np.full((845, 21), np.nan, dtype=np.float32)), "v1")
    seen, legal = np.ones((2, 845), dtype=np.float32), np.ones((2, 21), dtype=np.bool_)
    with pytest.raises(PolicyError, match="must be a network of finite values; got NaN"):
        policy.act(seen, legal, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("spoil", "named", "rule"),
    [
        (lambda f: swap_byte(f / "model.onnx"), "model.onnx", "of SHA-256"),
        (lambda f: swap_byte(f / "weights.safetensors"), "weights.safetensors", "of SHA-256"),
        (
            lambda f: (f / "model.onnx").write_bytes(b"short"),
            "model.onnx",
            r"\d+ bytes by its manifest",
        ),
        (lambda f: (f / "model.onnx").unlink(), "model.onnx", "a readable file"),
        (lambda f: (f / "manifest.json").unlink(), "manifest.json", "a readable file"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json", "a manifest"),
        (lambda f: (f / "manifest.json").write_text("{}"), "manifest.json", "a manifest"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"), "manifest.json", "a manifest"),
        (
            lambda f: edit_manifest(f, lambda files: files.pop("model.onnx")),
            "manifest.json",
            "a manifest of model.onnx",
        ),
        (
            lambda f: edit_manifest(f, lambda files: files["model.onnx"].update(sha256="no")),
            "manifest.json",
            "a manifest of files",
        ),
        (
            lambda f: edit_manifest(f, lambda files: files.update({"../x": files["model.onnx"]})),
            "manifest.json",
            "a list of plain file names",
        ),
        (
            lambda f: (f / "manifest.json").write_bytes(b" " * 2_000_000),
            "manifest.json",
            "a file of at most",
        ),
    ],
)
def test_onnx_policy_refuses_a_spoilt_folder(
    folder: Path, spoil: Callable[[Path], None], named: str, rule: str
) -> None:
    spoil(folder)
    with pytest.raises(PolicyError) as caught:
        OnnxPolicy.load(folder)
    assert re.match(f"{re.escape(str(folder / named))} must be {rule}.*; got ", str(caught.value))


def test_onnx_policy_refuses_a_folder_replaced_as_a_whole(folder: Path) -> None:
    announced = {Path(f.path).name: f.sha256 for f in write_model(folder, battle_graph(1))}
    assert OnnxPolicy.load(folder, announced=announced).version == "v0007"
    write_model(folder, battle_graph(2))
    assert OnnxPolicy.load(folder).version == "v0007"
    with pytest.raises(PolicyError, match="model.onnx must be the announced file of SHA-256"):
        OnnxPolicy.load(folder, announced=announced)
    with pytest.raises(PolicyError, match="must be the announced file .*; got no such file"):
        OnnxPolicy.load(folder, announced={"other.onnx": "0" * 64})


@pytest.mark.parametrize(
    ("graph", "rule"),
    [
        (b"", "an ONNX graph that onnxruntime runs"),
        (b"\x08\x07garbage", "an ONNX graph that onnxruntime runs"),
        (linear_graph(WEIGHTS, observation="x"), "a graph of observation and legal to q"),
        (linear_graph(WEIGHTS, values="y"), "a graph of observation and legal to q"),
        (linear_graph(WEIGHTS, kind=TensorProto.DOUBLE), "a graph of types float, bool and float"),
    ],
)
def test_onnx_policy_refuses_a_graph_that_is_none_of_ours(
    tmp_path: Path, graph: bytes, rule: str
) -> None:
    write_model(tmp_path / "v1", graph)
    with pytest.raises(PolicyError, match=f"model.onnx must be {rule}; got"):
        OnnxPolicy.load(tmp_path / "v1")
