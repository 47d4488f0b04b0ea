"""combat_dqn and skill_dqn: what is learned, how it goes on, what is exported."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import msgspec
import numpy as np
import pytest
import torch

from learners.model_types import value_stack
from learners.model_types.base import LearnError
from learners.model_types.combat_dqn import CombatDqn
from learners.model_types.skill_dqn import SkillDqn
from learners.model_types.value_settings import Method, ValueSettings
from learners.model_types.value_stack import ValueStack
from learners.model_types.value_steps import Gatherer
from learners.replay.form import Steps
from schemas.practice import Floats, Ints, View
from tests.learners.model_types.toy import GAIN, STEPS, GainingWorld, ToyWorld, toy_episodes

TYPES = [CombatDqn(), SkillDqn()]
CPU = torch.device("cpu")


def make(kind: Any, seeds: list[int], **changes: Any) -> ValueStack:
    small: dict[str, Any] = {
        "hidden": (32, 32), "batch": 32, "learning_rate": 3e-3, "polyak": 0.02, "discount": 0.9,
        "capacity": 4_000, "practice_matches": 2, "practice_steps": 24, "epsilon_updates": 100,
        "result_weight": 0.0, "reward_weight": 1.0, "epsilon_end": 0.05,
    }  # fmt: skip
    settings = msgspec.structs.replace(kind.preset("modern"), **{**small, **changes})
    rates = [1.0] * len(seeds)
    return cast(ValueStack, kind.make(settings, ToyWorld().layout, seeds, rates, CPU))


def digest(stack: ValueStack) -> list[bytes]:
    return [t.numpy().tobytes() for t in stack.state().values()]


def score(stack: ValueStack) -> float:
    """Return the greedy policy's mean reward of a step; the best is 1."""
    head = stack._head
    return float(ToyWorld(stack.n_models).play(head, stack.act, 10, seed=99).mean())


@pytest.mark.parametrize("kind", TYPES)
def test_learns_by_practice_alone(kind: Any) -> None:
    stack = make(kind, [1, 2], epsilon_updates=250)
    before = score(stack)
    for i in range(300):
        if i % 30 == 0:
            measures = stack.practise(ToyWorld(2), seed=i)
        stack.update()
    assert before < 0.6
    assert score(stack) >= 0.95
    assert measures["reward"].shape == (2,) and measures["reward"].min() > 0.7
    assert set(measures) == {"reward", "episode_length", "win_rate"}


@pytest.mark.parametrize("method", ["double_dqn", "cql", "iql", "awac"])
def test_learns_from_a_log_alone(method: Method) -> None:
    stack = make(CombatDqn(), [1, 2], method=method, n_step=1, discount=0.5)
    stack.fit([toy_episodes(20, seed=1), toy_episodes(20, seed=2)])
    for _ in range(250):
        update = stack.update()
    assert update.loss.shape == (2,)
    assert np.isfinite(update.loss).all()
    assert score(stack) >= 0.95
    judged = stack.judge([toy_episodes(5, seed=3), toy_episodes(5, seed=4)])
    assert (judged["loss"] < judged["trivial"]).all()
    assert (judged["agreement"] > 0.5).all()


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.2}, {"method": "iql"}, {"method": "awac"}])
def test_goes_on_bit_for_bit_from_its_state(changes: dict[str, Any]) -> None:
    def begin() -> ValueStack:
        stack = make(SkillDqn(), [3, 4], **changes)
        stack.fit([toy_episodes(4, seed=5), toy_episodes(4, seed=6)])
        return stack

    def work(stack: ValueStack, seed: int) -> None:
        stack.practise(ToyWorld(2), seed)
        for _ in range(5):
            stack.update()

    first = begin()
    work(first, 1)
    kept = {name: value.clone() for name, value in first.state().items()}
    work(first, 2)
    second = begin()
    second.restore(kept)
    work(second, 2)
    assert digest(first) == digest(second)


def test_normaliser_is_taken_from_the_first_rows_of_practice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(value_stack, "SETTLED", 600)
    stack = make(CombatDqn(), [1, 2])
    means = []
    for seed in range(8):
        stack.practise(ToyWorld(2), seed)
        means.append(stack._normaliser.mean.numpy().copy())
    assert stack._replay.rings[0].n_rows >= 600
    rows = [stack._replay.column("vector", i)[:600].astype(np.float64) for i in range(2)]
    assert not np.array_equal(means[0], means[1])
    assert np.allclose(means[-1], [r.mean(0) for r in rows], atol=1e-6)
    assert np.array_equal(means[-2], means[-1])


def test_normaliser_of_a_log_stays_in_practice() -> None:
    stack = make(CombatDqn(), [1])
    rows = toy_episodes(4, seed=5)
    stack.fit([rows])
    stack.practise(ToyWorld(1), 1)
    assert np.allclose(stack._normaliser.mean[0].numpy(), rows.observation.mean(0), atol=1e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_a_model_of_a_stack_is_that_model_alone(kind: Any) -> None:
    rows = [toy_episodes(4, seed=5), toy_episodes(4, seed=6)]
    pair, alone = make(kind, [3, 4], dropout=0.1), make(kind, [4], dropout=0.1)
    pair.fit(rows)
    alone.fit(rows[1:])
    for _ in range(5):
        both, one = pair.update(), alone.update()
        np.testing.assert_allclose(both.loss[1:], one.loss, rtol=1e-3)
        np.testing.assert_allclose(both.scalars["q_max"][1:], one.scalars["q_max"], rtol=1e-3)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("method", ["double_dqn", "iql"])
def test_exported_graph_chooses_as_the_stack_does(kind: Any, method: Method) -> None:
    stack = make(kind, [3, 4], method=method)
    stack.fit([toy_episodes(4, seed=5), toy_episodes(4, seed=6)])
    for _ in range(20):
        stack.update()
    view = ToyWorld(2).begin(kind.acts, 4, seed=8)
    for i in range(2):
        graph = stack.graph(i)
        (scores,) = graph(torch.from_numpy(view.observation[i]), torch.from_numpy(view.legal[i]))
        np.testing.assert_array_equal(scores.argmax(1).numpy(), stack.act(view)[i])
        assert (scores.numpy()[~view.legal[i]] < -1e8).all()


def test_gains_are_paid_beside_a_share_of_the_rewards() -> None:
    def choose(view: View) -> tuple[Ints, Floats]:
        return view.legal.argmax(-1), np.ones(view.alive.shape, np.float32)

    def gathered(**weights: float) -> list[Steps]:
        return Gatherer(GainingWorld(2), "combat", 2, seed=3).play(choose, STEPS, **weights).steps

    for plain, paid in zip(gathered(), gathered(reward_weight=0.5, gain_weight=3.0), strict=True):
        gain = np.tile(GAIN, STEPS)
        np.testing.assert_allclose(paid.reward, 0.5 * plain.reward + 3.0 * gain, atol=1e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_exploring_choices_are_legal(kind: Any) -> None:
    stack = make(kind, [3, 4], epsilon_start=1.0)
    view = ToyWorld(2).begin(kind.acts, 8, seed=8)
    choice = stack.act(view, greedy=False)
    assert np.take_along_axis(view.legal, choice[..., None], 2).all()
    assert len(np.unique(choice)) == 4


def test_refuses_to_learn_from_nothing_or_from_what_is_not_finite() -> None:
    stack = make(CombatDqn(), [1, 2])
    with pytest.raises(LearnError, match=r"rows\[0\] must hold at least 1 step"):
        stack.update()
    rows = toy_episodes(4)
    stack.fit([rows, dataclasses.replace(rows, reward=rows.reward * np.float32(np.nan))])
    with pytest.raises(LearnError, match=r"loss_online\[1\] must be finite; got nan"):
        stack.update()


def test_classic_preset_has_the_numbers_of_the_specification() -> None:
    settings = CombatDqn().preset("classic")
    assert isinstance(settings, ValueSettings)
    assert settings.hidden == (1024, 1024, 512, 512, 256, 256, 128, 128, 64, 64)
    assert (settings.dropout, settings.learning_rate) == (0.2, 1e-4)
    assert (settings.discount, settings.batch) == (0.99, 256)
