"""Exported graphs: what torch says, at any batch and any number of steps; and the types' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from learners.model_types.registry import model_type
from learners.model_types.temporal_transformer import TemporalNet, TemporalStack
from learners.model_types.threat_assessment import ThreatStack
from tests.learners.model_types.predicting import SMALL, assert_parity, exported, made, toy_rows
from tests.learners.model_types.toy import ToyLayout


def inputs_of(name: str, batch: int, steps: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Inputs of a graph made from the type's ports."""
    rng = np.random.default_rng(seed)
    settings = SMALL[name]
    made_of = {}
    for port in model_type(name).inputs(ToyLayout()):
        shape = [steps if n is None else n for n in port.shape]
        if port.name == "memory":
            shape = [getattr(settings, n) for n in ("depth", "memory", "width")]
        value: NDArray[Any] = rng.random((batch, *shape)).astype(np.float32)
        if port.dtype == "uint8":
            value = rng.integers(0, 4, value.shape).astype(np.uint8)
        elif port.dtype == "int64":
            value = rng.integers(0, 4, value.shape)
        elif port.dtype == "bool":
            value = np.arange(steps) < rng.integers(1, steps + 1, batch)[:, None]
        elif port.name == "enemies":
            value[..., 1, :] *= rng.random(value.shape[:-2])[..., None] < 0.5  # some are dead
        made_of[port.name] = torch.from_numpy(value)
    return made_of


@pytest.mark.parametrize("name", list(SMALL))
def test_onnx_says_what_torch_says_at_any_batch_and_length(name: str) -> None:
    learn, judge = toy_rows(n_matches=6)
    stack = made(name)
    stack.fit(learn)
    stack.update()
    stack.judge(judge)
    session, graph = exported(stack, name, 1, judge[1]), stack.graph(1)
    ports = [port.name for port in model_type(name).inputs(ToyLayout())]
    assert [port.name for port in session.get_inputs()] == ports
    for batch, steps in ((3, 4), (1, 4), (5, 4), (2, 1), (2, 7)):
        assert_parity(session, graph, inputs_of(name, batch, steps, seed=batch))
    real = {k: torch.from_numpy(v) for k, v in stack.feeds(judge[1], 5).items()}
    assert list(real) == ports
    assert {len(v) for v in real.values()} == {5}
    assert_parity(session, graph, real)


@pytest.mark.parametrize("name", list(SMALL))
def test_graph_gives_what_its_ports_say(name: str) -> None:
    learn, judge = toy_rows(n_matches=8)
    stack = made(name)
    stack.fit(learn)
    stack.update()
    ports = model_type(name).outputs(ToyLayout())
    found = stack.graph(0)(*inputs_of(name, 2, 5).values())
    for port, output in zip(ports, found, strict=True):
        assert len(output) == 2
        for wanted, got in zip(port.shape, output.shape[1:], strict=True):
            assert wanted in (None, got)
    assert np.isfinite(stack.judge(judge)["loss"]).all()


def test_threat_of_the_dead_is_nothing_and_sure() -> None:
    learn, _ = toy_rows(n_matches=4)
    stack = made("threat_assessment")
    stack.fit(learn)
    inputs = inputs_of("threat_assessment", 2, 1)
    inputs["enemies"][:, 1] = 0.0
    mean, deviation = stack.graph(0)(*inputs.values())
    assert (mean[:, 1] == 0).all()
    assert (deviation[:, 1] == 0).all()
    assert (deviation[:, [0, 2]] > 0).all()


def test_threat_is_calibrated_on_matches_that_no_member_saw() -> None:
    learn, judge = toy_rows()
    stack = made("threat_assessment", calibration=0.2)
    assert isinstance(stack, ThreatStack)
    stack.fit(learn)
    kept = {int(m) for m in learn[0].match[stack._rows[0]["kept"]]}
    assert kept == set(range(2, 45, 5))  # every fifth of 45
    assert not kept & {int(m) for m in learn[0].match[stack._places[0]]}
    for _ in range(60):
        stack.update()
    found = stack.judge(judge)
    assert (np.abs(found["coverage_90"] - 0.9) < 0.08).all()
    assert (found["calibration_error"] < 0.1).all()
    assert (found["temperature"] != 1).all()
    again = made("threat_assessment", calibration=0.2)
    again.modules()["net"].load_state_dict(stack.modules()["net"].state_dict())
    np.testing.assert_array_equal(again.judge(judge)["loss"], found["loss"])  # no rows, same scale


def test_members_of_an_ensemble_begin_apart() -> None:
    stack = made("threat_assessment")
    weight = stack.modules()["net"].of_actor.weight  # type: ignore[union-attr]
    assert isinstance(weight, torch.Tensor)
    halves = weight[0].chunk(2)
    assert not torch.equal(halves[0], halves[1])


def test_memory_carried_step_by_step_equals_the_whole_sequence() -> None:
    learn, _ = toy_rows(n_matches=4)
    stack = made("temporal_transformer", memory=12)
    stack.fit(learn)
    graph = stack.graph(0)
    inputs = inputs_of("temporal_transformer", 2, 6)
    net = graph.net
    assert isinstance(net, TemporalNet)
    steps = [inputs[name] for name in ("observation", "enemies", "action")]
    with torch.no_grad():
        whole, *_ = graph(*steps, *net.empty(2))
        carried, told = net.empty(2), []
        for t in range(6):
            now, *rest = graph(*(x[:, t : t + 1] for x in steps), *carried)
            carried = (rest[0], rest[1])
            told.append(now)
    torch.testing.assert_close(torch.cat(told, 1), whole)
    assert carried[1].tolist() == [6, 6]


def test_an_unfilled_memory_is_not_read() -> None:
    stack = made("temporal_transformer")
    graph = stack.graph(0)
    inputs = inputs_of("temporal_transformer", 1, 3)
    inputs["filled"] = torch.zeros(1, dtype=torch.int64)
    found = graph(*inputs.values())[0]
    inputs["memory"] = 100 * inputs["memory"]
    assert torch.equal(graph(*inputs.values())[0], found)
    inputs["filled"] = torch.full((1,), 6)
    assert not torch.equal(graph(*inputs.values())[0], found)


def test_draws_of_sequences_never_cross_an_episodes_beginning() -> None:
    learn, _ = toy_rows(n_matches=4)
    temporal = made("temporal_transformer")
    assert isinstance(temporal, TemporalStack)
    temporal.fit(learn)
    columns = temporal._rows[0]
    batch = temporal._gather(columns, temporal._places[0], np.random.default_rng(0))
    assert batch["known"].shape == (len(temporal._places[0]), 12)
    pattern = made("pattern_recognition")
    pattern.fit(learn)
    rows = pattern._rows[0]
    places = np.array([0, 3, 12, 14, 23])  # episodes have 12 steps
    windows = pattern._gather(rows, places, None)
    assert windows["known"].sum(1).tolist() == [1, 4, 1, 3, 8]
    np.testing.assert_array_equal(windows["observation"][1, :4], rows["observation"][:4])
    np.testing.assert_array_equal(windows["observation"][4], rows["observation"][16:24])
