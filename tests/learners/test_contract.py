"""What every algorithm with every network must do; none may be left out."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from learners.algorithms import ALGORITHMS
from learners.export import (
    ExportError,
    OnnxTemplate,
    check_parity,
    weights_digest,
    weights_of,
    write_version,
)
from learners.networks import ILLEGAL_Q, NETWORKS, ConvNetwork, value_ports
from learners.replay.rows import Names, WindowRows
from learners.settings import ModelSettings, Shape
from learners.trainer import Trainer
from schemas.errors import SchemaError
from schemas.game import Learner
from tests.learners import toy
from tests.learners.test_nstep import columns

KINDS = sorted(itertools.product(ALGORITHMS, NETWORKS, (False, True)))
kinds = pytest.mark.parametrize(
    ("algorithm", "network", "normalise"), KINDS, ids=lambda value: str(value)
)
GRID = Shape(observation=(9, 8, 2), n_actions=5)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_every_choice_of_the_game_description_is_there() -> None:
    hints = get_type_hints(Learner)
    assert set(get_args(hints["algorithm"])) == set(ALGORITHMS)
    assert set(get_args(hints["network"])) == set(NETWORKS)


def settings(algorithm: str, network: str, normalise: bool, seed: int = 0) -> ModelSettings:
    """Settings on a grid, which every network takes."""
    learner = toy.learner(
        algorithm=algorithm, network=network, normalise=normalise, channels=[4, 8], hidden=[16]
    )
    return msgspec.structs.replace(toy.settings(seed), shape=GRID, learner=learner)


def observed(n: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    legal = rng.random((n, GRID.n_actions)) < 0.5
    legal[:, 0] = True
    return rng.normal(1.0, 2.0, (n, GRID.size)).astype(np.float32), legal


@kinds
def test_values_have_their_shape_and_mask(algorithm: str, network: str, normalise: bool) -> None:
    made = ALGORITHMS[algorithm](settings(algorithm, network, normalise), torch.device("cpu"))
    observation, legal = observed(7)
    made.fit_normaliser(observation)
    values = made.values(observation, legal)
    assert values.shape == (7, GRID.n_actions)
    assert values.dtype == np.float32
    assert (values[~legal] == ILLEGAL_Q).all()
    assert (np.abs(values[legal]) < 1e3).all()


@kinds
def test_same_seed_same_weights_other_seed_other(
    algorithm: str, network: str, normalise: bool
) -> None:
    digests = [
        weights_digest(
            ALGORITHMS[algorithm](
                settings(algorithm, network, normalise, seed), torch.device("cpu")
            ).policy
        )
        for seed in (1, 1, 2)
    ]
    assert digests[0] == digests[1] != digests[2]


@kinds
def test_state_restores_and_goes_on_alike(algorithm: str, network: str, normalise: bool) -> None:
    first, second = (
        ALGORITHMS[algorithm](settings(algorithm, network, normalise, seed), torch.device("cpu"))
        for seed in (1, 2)
    )
    first.fit_normaliser(observed(50)[0])
    rng = np.random.default_rng(0)
    trainer = Trainer(settings(algorithm, network, normalise))
    fill(trainer, rng)
    batches = [trainer.replay.sample(16, rng) for _ in range(6)]
    for batch in batches[:3]:
        first.update(batch)
    second.restore(first.state())
    for batch in batches[3:]:
        one, other = first.update(batch), second.update(batch)
        assert one.errors.tobytes() == other.errors.tobytes()
    assert weights_digest(first.policy) == weights_digest(second.policy)


def fill(trainer: Trainer, rng: np.random.Generator) -> None:
    """Put random transitions on the grid into a trainer's replay."""
    n = 100
    observation, legal = observed(n, 1)
    following, next_legal = observed(n, 2)
    none, zeros = np.zeros(n, np.bool_), np.zeros(n, np.int64)
    rows = WindowRows(
        observation=observation, legal=legal.astype(np.uint8), next_observation=following,
        next_legal=next_legal.astype(np.uint8), has_next=~none, action=zeros,
        reward=rng.random(n), terminated=none, truncated=~none, settled=~none, revision=zeros,
        demonstration=none, step=zeros, actor=Names.of(["a"] * n), episode=Names.of(["e"] * n),
    )  # fmt: skip
    assert trainer.replay.fold(rows, 0) == n


@kinds
def test_export_agrees_with_torch_for_every_batch_size(
    algorithm: str, network: str, normalise: bool
) -> None:
    chosen = settings(algorithm, network, normalise)
    made = ALGORITHMS[algorithm](chosen, torch.device("cpu"))
    template = OnnxTemplate(made.policy, *value_ports(GRID))
    made.fit_normaliser(observed(50, 3)[0])
    rng = np.random.default_rng(0)
    trainer = Trainer(chosen)
    fill(trainer, rng)
    for _ in range(5):  # the template was traced before these
        made.update(trainer.replay.sample(16, rng))
    model = template.render(weights_of(made.policy))
    assert model == template.render(weights_of(made.policy))
    for n in (1, 3, 64):
        observation, legal = observed(n, n)
        feeds = {"observation": observation, "legal": legal}
        parity = check_parity(model, [made.values(observation, legal)], feeds)
        assert parity.n == n
        assert parity.agreement == 1.0
    session = onnxruntime.InferenceSession(model)
    inputs = {i.name: (i.type, i.shape[1]) for i in session.get_inputs()}
    assert inputs == {
        "observation": ("tensor(float)", GRID.size),
        "legal": ("tensor(bool)", GRID.n_actions),
    }


def test_export_that_differs_is_refused() -> None:
    made = ALGORITHMS["dqn"](settings("dqn", "mlp", False), torch.device("cpu"))
    observation, legal = observed(8)
    model = OnnxTemplate(made.policy, *value_ports(GRID)).render(weights_of(made.policy))
    with pytest.raises(ExportError, match="exported values must be within"):
        feeds = {"observation": observation, "legal": legal}
        check_parity(model, [made.values(observation, legal) + 0.01], feeds)


def test_version_folder_lists_its_files(tmp_path: Path) -> None:
    made = ALGORITHMS["dqn"](settings("dqn", "mlp", False), torch.device("cpu"))
    weights = weights_of(made.policy)
    files = write_version(tmp_path / "m" / "v0001", b"graph", weights, {"seed": 3})
    manifest = msgspec.json.decode((tmp_path / "m" / "v0001" / "manifest.json").read_bytes())
    assert manifest["seed"] == 3
    assert set(manifest["files"]) == {"model.onnx", "weights.safetensors"}
    assert manifest["files"]["model.onnx"]["bytes"] == 5
    assert [file.path for file in files][-1] == "manifest.json"
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["v0001"]


def test_conv_refuses_what_is_no_grid() -> None:
    with pytest.raises(SchemaError, match=r"\(height, width, channels\)"):
        ConvNetwork(toy.SHAPE, toy.learner())
    small = Shape(observation=(3, 3, 1), n_actions=2)
    with pytest.raises(SchemaError, match="large enough for 2 convolutions"):
        ConvNetwork(small, toy.learner())


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_learns_the_toy_game(algorithm: str, alpha: float, tmp_path: Path) -> None:
    trainer = Trainer(
        toy.settings(
            algorithm=algorithm, priority_alpha=alpha, n_step=1, discount=0.8, updates_per_row=0.5
        )
    )  # one step: longer returns are those of the random walker, not of the best play
    rows = toy.walk(1_600)
    for window in toy.write_windows(tmp_path, rows, 200):
        first = window.first_origin.offset
        trainer.fold(window, columns(rows[first : first + window.n_rows]))
        while trainer.n_owed:
            trainer.update()
    cells = np.stack([toy.seen(cell) for cell in range(toy.N_CELLS - 1)])
    masks = np.asarray([list(toy.legal(c)) for c in range(toy.N_CELLS - 1)]).astype(np.bool_)
    values = trainer.algorithm.values(cells, masks)
    assert values.argmax(1).tolist() == [toy.RIGHT] * 5
    # One step before the goal pays 1; each step earlier costs 0.05 and a fifth by discount.
    best = [1.0]
    for _ in range(4):
        best.append(0.8 * best[-1] - 0.05)
    assert values.max(1) == pytest.approx(best[::-1], abs=0.15)
