"""What all predicting types promise: they learn, repeat, resume and stack."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from learners.model_types.base import LearnError
from learners.model_types.registry import model_type
from learners.model_types.supervised import SupervisedSettings, rate_at
from tests.learners.model_types.predicting import SMALL, made, toy_rows
from tests.learners.model_types.toy import ToyLayout, ToyWorld

every_type = pytest.mark.parametrize("name", list(SMALL))


@every_type
def test_learns_more_than_the_trivial_predictor_knows(name: str) -> None:
    learn, judge = toy_rows()
    stack = made(name)
    stack.fit(learn)
    for _ in range(SMALL[name].updates):
        told = stack.update()
        assert told.loss.shape == (2,)
    found = stack.judge(judge)
    assert all(v.shape == (2,) and v.dtype == np.float32 for v in found.values())
    assert (found["loss"] < 0.8 * found["trivial"]).all()


@every_type
def test_same_seed_gives_the_same_weights_and_a_restored_one_goes_on(name: str) -> None:
    learn, _ = toy_rows(n_matches=6)
    first = made(name)
    first.fit(learn)
    for _ in range(3):
        first.update()
    kept = first.state()
    told = [first.update().loss for _ in range(3)]
    other = made(name, seeds=(8, 9))
    other.fit(learn)
    other.restore(kept)
    for expected in told:
        np.testing.assert_array_equal(other.update().loss, expected)
    again = made(name)
    again.fit(learn)
    for _ in range(6):
        again.update()
    for key, value in first.state().items():
        assert torch.equal(value, other.state()[key]), key
        assert torch.equal(value, again.state()[key]), key


@every_type
def test_a_stack_of_two_is_two_of_one(name: str) -> None:
    learn, _ = toy_rows(n_matches=6)
    changes: dict[str, Any] = {} if name == "threat_assessment" else {"dropout": 0.2}
    changes |= {"noise": 0.1, "learning_rate": 5e-4}
    pair, single = made(name, **changes), made(name, seeds=(4,), **changes)
    pair.fit(learn)
    single.fit(learn[1:])
    for _ in range(3):
        both, one = pair.update(), single.update()
        np.testing.assert_allclose(both.loss[1:], one.loss, rtol=1e-4)
    alone = single.modules()["net"].state_dict()
    for key, value in pair.modules()["net"].state_dict().items():
        # Adam turns a gradient of nearly 0 into a step of the rate's size, of either sign.
        torch.testing.assert_close(value[1:], alone[key], atol=5e-4, rtol=1e-3)


@every_type
def test_computing_activations_twice_changes_nothing(name: str) -> None:
    learn, _ = toy_rows(n_matches=4)
    losses = []
    for twice in (False, True):
        stack = made(name, noise=0.1, checkpointing=twice)
        stack.fit(learn)
        losses.append([stack.update().loss for _ in range(2)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@every_type
def test_learns_in_bfloat16(name: str) -> None:
    learn, judge = toy_rows(n_matches=6)
    stack = made(name, precision="bfloat16")
    stack.fit(learn)
    losses = [stack.update().loss for _ in range(20)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert np.isfinite(stack.judge(judge)["loss"]).all()


@every_type
def test_what_cannot_be_learned_is_refused(name: str) -> None:
    learn, judge = toy_rows(n_matches=4)
    stack = made(name)
    with pytest.raises(LearnError, match=r"rows.* must hold steps whose target is known"):
        stack.update()
    stack.fit(learn)
    with pytest.raises(LearnError, match="one that acts"):
        stack.act(None)
    assert stack.practise(ToyWorld(), 0) == {}
    with torch.no_grad():
        next(iter(stack.modules()["net"].parameters()))[1].fill_(float("nan"))
    with pytest.raises(LearnError, match=r"loss\[1\] must be finite; got nan at update 0"):
        stack.update()
    empty = [one.take(np.zeros(0, np.int64)) for one in judge]
    with pytest.raises(LearnError, match="got none"):
        stack.judge(empty)


@every_type
def test_presets_hold_and_other_types_settings_do_not(name: str) -> None:
    kind = model_type(name)
    assert kind.name == name
    assert kind.acts is None
    for preset in ("classic", "modern"):
        assert isinstance(kind.preset(preset), kind.settings)
    with pytest.raises(LearnError, match="settings must be"):
        kind.make(SupervisedSettings(), ToyLayout(), [0], [1.0], torch.device("cpu"))


@every_type
def test_later_rows_push_out_the_oldest(name: str) -> None:
    learn, _ = toy_rows(n_matches=6)
    stack = made(name, max_rows=200)
    stack.fit(learn)
    norms = {k: v.clone() for k, v in stack.modules()["net"].named_buffers()}
    later = [
        dataclasses.replace(one, match=one.match + 100, observation=5 + one.observation)
        for one in learn
    ]
    stack.fit(later)
    assert all(len(column) == 200 for one in stack._rows for column in one.values())
    stack.update()
    for key, value in stack.modules()["net"].named_buffers():
        assert torch.equal(value, norms[key]), key


def test_rate_rises_then_falls_by_a_half_cosine() -> None:
    settings = SupervisedSettings(updates=100, warm_up=3, final_rate=0.2)
    assert rate_at(settings, 0) == 0.25
    assert rate_at(settings, 50) == pytest.approx(0.6)
    assert rate_at(settings, 100) == rate_at(settings, 500) == pytest.approx(0.2)
