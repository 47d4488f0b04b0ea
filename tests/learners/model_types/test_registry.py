"""What every registered type promises, from its rows to a version that is served.

Each type is trained once, by the trainer, on the toy world; all checks look at that training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch

from learners.export import open_session, outputs_of, parity_of
from learners.exporting import FORMS
from learners.model_types.base import Port
from learners.model_types.registry import names
from learners.training.deliver import (
    Renderer,
    Wanted,
    deliver,
    load_stack,
    read_version,
    version_weights,
)
from learners.training.plan import Plan
from learners.training.quality import qualities
from learners.training.run import Hooks, Training
from learners.training.weights import digest_of, model_weights
from schemas.practice import Episodes, split_by_match
from tests.learners.model_types.small import SMALL
from tests.learners.model_types.toy import ToyLayout, ToyWorld, toy_episodes

TYPES = (
    "combat_dqn", "movement_ppo", "skill_dqn", "threat_assessment", "team_coordination",
    "spatial_vit", "temporal_transformer", "pattern_recognition", "soft_actor_critic",
)  # fmt: skip
LAYOUT = ToyLayout()
ILLEGAL = -1e8


class Trained(NamedTuple):
    training: Training
    points: list[str]
    folders: list[Path]


def rows(n_matches: int = 60) -> list[Episodes]:
    return [toy_episodes(n_matches, seed) for seed in (1, 2)]


def plan_of(name: str, **changes: Any) -> Plan:
    settings = {**msgspec.to_builtins(SMALL[name]), **changes}
    return Plan(
        type=name, archetypes=["mage", "tank"], settings=settings, judge_matches=4,
        judge_every=max(1, settings["updates"] // 3), checkpoint_every=7, patience=0,
    )  # fmt: skip


def train(plan: Plan, folder: Path | None = None, n_matches: int = 60) -> Training:
    return Training(plan, LAYOUT, rows(n_matches), ToyWorld(), folder)


@pytest.fixture(scope="module", params=TYPES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Trained]:
    torch.set_num_threads(1)
    training = train(plan_of(request.param))
    points: list[str] = []
    assert training.run(Hooks(on_point=lambda point, kind: points.append(kind)))
    root = tmp_path_factory.mktemp(request.param)
    folders = deliver(
        training, LAYOUT, Wanted(forms=("fp32",)), lambda archetype: root / archetype / "v0001",
        [{"model": f"toy-{archetype}"} for archetype in training.plan.archetypes],
    )  # fmt: skip
    yield Trained(training, points, list(folders.values()))


def test_no_type_was_left_out() -> None:
    assert tuple(names()) == TYPES
    assert set(SMALL) == set(TYPES)


def test_type_learns_the_toy_world_to_a_known_score(trained: Trained) -> None:
    training = trained.training
    acts = training.kind.acts
    found = qualities(
        training.kind, training.stack, training.plan.archetypes, training.held_out, ToyWorld(),
        16, seed=99,
    )  # fmt: skip
    for archetype in ("mage", "tank"):
        if acts is None:
            assert found[archetype]["measure"] == "gain"
            assert found[archetype]["low"] > 0.15
            assert found[archetype]["loss"] < 0.8 * found[archetype]["trivial"]
        else:
            assert found[archetype]["score"] > 0.95
    assert {"train", "judged"} <= set(trained.points)


def test_shapes_are_those_of_the_ports(trained: Trained) -> None:
    training = trained.training
    kind, stack = training.kind, training.stack
    assert stack.n_models == 2
    judged = stack.judge(training.held_out)
    assert all(v.shape == (2,) and v.dtype == np.float32 for v in judged.values())
    feeds = stack.feeds(training.held_out[0], 5)
    inputs = kind.inputs(LAYOUT)
    assert {port.name for port in inputs} <= set(feeds)
    for port in inputs:
        _fits(feeds[port.name], port, 5)
    outputs = outputs_of(stack.graph(0), {p.name: feeds[p.name] for p in inputs})
    for array, port in zip(outputs, kind.outputs(LAYOUT), strict=True):
        _fits(array, port, 5)


def _fits(array: Any, port: Port, n: int) -> None:
    assert array.dtype == np.dtype(port.dtype), port
    assert array.shape[0] == n
    assert len(array.shape) == 1 + len(port.shape), port
    wanted = [(a, b) for a, b in zip(array.shape[1:], port.shape, strict=True) if b is not None]
    assert all(a == b for a, b in wanted), port


def test_masks_hold_in_acting_and_in_the_graph(trained: Trained) -> None:
    training = trained.training
    head = training.kind.acts
    if head is None or head == "aim":
        pytest.skip("nothing is masked")
    view = ToyWorld().begin(head, 12, 3)
    for greedy in (True, False):
        choice = training.stack.act(view, greedy=greedy)
        assert choice.shape == view.legal.shape[:2]
        assert np.take_along_axis(view.legal, choice[..., None], 2).all()
    feeds = training.stack.feeds(training.held_out[1], 64)
    ordered = {p.name: feeds[p.name] for p in training.kind.inputs(LAYOUT)}
    scores = outputs_of(training.stack.graph(1), ordered)[0]
    assert (scores[~feeds["legal"]] < ILLEGAL).all()
    assert (scores[feeds["legal"]] > ILLEGAL).all()


def test_exported_graph_agrees_with_torch_at_every_batch_size(trained: Trained) -> None:
    training = trained.training
    for i, folder in enumerate(trained.folders):
        model = (folder / "model.onnx").read_bytes()
        inputs = training.kind.inputs(LAYOUT)
        assert [x.name for x in open_session(model).get_inputs()] == [p.name for p in inputs]
        for n in (1, 3, 40):
            feeds = training.stack.feeds(training.held_out[i], n)
            feeds = {port.name: feeds[port.name] for port in inputs}
            parity = parity_of(model, outputs_of(training.stack.graph(i), feeds), feeds)
            assert parity.n == n
            assert parity.max_error < 1e-4
            assert parity.agreement == 1.0


def test_every_form_is_made_and_the_same_bytes_again(trained: Trained) -> None:
    training = trained.training
    wanted = Wanted(forms=FORMS)
    renders = [
        Renderer(training.kind, LAYOUT, training.stack).render(0, training.held_out[0], wanted)
        for _ in range(2)
    ]
    forms = {m.form: m for m in renders[0].measured}
    assert set(forms) == set(FORMS)
    assert forms["fp32"].fit
    for measured in renders[0].measured:
        assert measured.n_bytes == {m.form: m.n_bytes for m in renders[1].measured}[measured.form]
    full = [
        Renderer(training.kind, LAYOUT, training.stack).full(1, training.held_out[1])[0]
        for _ in range(2)
    ]
    assert full[0] == full[1] == (trained.folders[1] / "model.onnx").read_bytes()


def test_saved_version_loads_to_the_same_model(trained: Trained) -> None:
    training = trained.training
    info = read_version(trained.folders[1])
    assert (info.type, info.archetype, info.form) == (training.plan.type, "tank", "fp32")
    assert info.plan.digest() == training.plan.digest()
    weights = version_weights(trained.folders[1])
    assert digest_of(weights) == digest_of(model_weights(training.stack, 1))
    learned = [split_by_match(some, training.plan.held_out)[0] for some in rows()]
    loaded = load_stack(trained.folders, LAYOUT, rows=learned)
    before, after = training.stack.judge(training.held_out), loaded.judge(training.held_out)
    for name in before:
        # a moving average that only training needs is not part of a version
        np.testing.assert_allclose(before[name], after[name], rtol=1e-2)


@pytest.mark.parametrize("name", TYPES)
def test_same_seed_same_digest_and_a_killed_training_goes_on_alike(
    name: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    plan = plan_of(name, updates=20, practise_every=10)
    whole, again = train(plan, n_matches=8), train(plan, n_matches=8)
    assert whole.run() and again.run()
    killed = train(plan, tmp_path, n_matches=8)
    assert not killed.run(Hooks(stop=lambda: killed.progress.n_updates >= 17))
    resumed = train(plan, tmp_path, n_matches=8)
    assert not resumed.refused
    assert resumed.progress.n_updates == 14
    assert resumed.run()
    other = train(msgspec.structs.replace(plan, seed=2), n_matches=8)
    assert other.run()
    digests = [
        [digest_of(model_weights(t.stack, i)) for i in range(2)]
        for t in (whole, again, resumed, other)
    ]
    assert digests[0] == digests[1] == digests[2]
    assert digests[0][0] != digests[3][0]
    assert digests[0][0] != digests[0][1]
