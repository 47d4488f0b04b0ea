"""Every policy there is keeps to the mask and says truly how likely its choice was."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import agents.policies
import games.battle
from agents.policies import (
    EpsilonMix,
    OnnxPolicy,
    Policy,
    RandomPolicy,
    RowRandom,
    Rule,
)
from agents.policies.choice import choose, one_hot
from games.battle.scripted import ScriptedPolicy, ScriptedRule
from tests.games.nets import battle_graph

N, D = 21, 845
NETWORK = OnnxPolicy(battle_graph(), "v0001")

POLICIES: dict[type, list[Callable[[], Policy]]] = {
    RandomPolicy: [RandomPolicy],
    EpsilonMix: [lambda: EpsilonMix(ScriptedRule(), 0.1), lambda: EpsilonMix(NETWORK, 1.0)],
    ScriptedPolicy: [ScriptedPolicy],
    OnnxPolicy: [lambda: NETWORK.with_epsilon(0.0), lambda: NETWORK.with_epsilon(0.3)],
}
MAKERS = [make for makers in POLICIES.values() for make in makers]


def positions(rng: np.random.Generator, n: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Arbitrary observations and masks; the scripted rule needs a legal move, as games give."""
    observations = (rng.random((n, D)) < 0.1).astype(np.float32)
    legal = rng.random((n, N)) < rng.random((n, 1))
    legal[:, 6] = True
    squares = observations.reshape(n, 169, 5)
    for action, square in enumerate((70, 71, 72, 83, 85, 96, 97, 98)):
        legal[:, 13 + action] = squares[:, square, 3] > 0
    return observations, legal


def test_policies_none_is_left_out() -> None:
    found = set()
    for package in (agents.policies, games.battle):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            for _, kind in inspect.getmembers(module, inspect.isclass):
                if kind.__module__ == module.__name__ and hasattr(kind, "act"):
                    found.add(kind)
    assert found - {Policy} == set(POLICIES)


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 40))
def test_policy_keeps_the_mask_and_its_numbers_agree(
    make: Callable[[], Policy], seed: int, n: int
) -> None:
    observations, legal = positions(np.random.default_rng(seed), n)
    policy = make()
    choice = policy.act(observations, legal, np.random.default_rng(seed))
    rows = np.arange(n)
    assert choice.actions.shape == choice.propensities.shape == choice.explored.shape == (n,)
    assert choice.probabilities.shape == (n, N)
    assert choice.probabilities.dtype == np.float32
    assert legal[rows, choice.actions].all()
    assert (choice.probabilities[~legal] == 0).all()
    np.testing.assert_allclose(choice.probabilities.sum(axis=1), np.ones(n), rtol=1e-6)
    chosen = choice.probabilities[rows, choice.actions]
    np.testing.assert_allclose(chosen, choice.propensities, rtol=1e-6)
    assert ((choice.propensities > 0) & (choice.propensities <= 1)).all()
    again = make().act(observations, legal, np.random.default_rng(seed))
    assert (again.actions == choice.actions).all()


@pytest.mark.parametrize("make", MAKERS)
def test_policy_propensities_are_true(make: Callable[[], Policy]) -> None:
    """20,000 draws of one position: each frequency within four standard errors of its claim."""
    n = 20_000
    one, mask = positions(np.random.default_rng(11), 1)
    many = [np.repeat(a, n, axis=0) for a in (one, mask)]
    choice = make().act(
        many[0].astype(np.float32), many[1].astype(np.bool_), np.random.default_rng(3)
    )
    claimed = choice.probabilities[0].astype(np.float64)
    counted = np.bincount(choice.actions, minlength=N) / n
    assert (np.abs(counted - claimed) <= 4 * np.sqrt(claimed * (1 - claimed) / n) + 1e-9).all()


@pytest.mark.parametrize("make", MAKERS)
def test_policy_refuses_a_row_without_a_legal_action(make: Callable[[], Policy]) -> None:
    legal = np.ones((3, N), dtype=np.bool_)
    legal[1] = False
    with (
        pytest.raises(ValueError, match="legal must hold a legal action in each row; .* row 1"),
        np.errstate(invalid="ignore"),
    ):
        make().act(np.zeros((3, D), dtype=np.float32), legal, np.random.default_rng(0))


def test_mix_explores_as_often_as_it_says_and_flags_it() -> None:
    legal = np.ones((20_000, N), dtype=np.bool_)
    policy = EpsilonMix(ScriptedRule(), 0.1)
    seen = np.zeros((20_000, D), dtype=np.float32)
    seen[:, ((6 + 0) * 13 + 6 + 4) * 5 + 3] = 1  # an enemy four squares to the right
    choice = policy.act(seen, legal, np.random.default_rng(0))
    assert abs(choice.explored.mean() - 0.1) < 0.01
    assert (choice.actions[~choice.explored] == 8).all()
    assert set(choice.actions[choice.explored].tolist()) == set(range(N))
    np.testing.assert_allclose(choice.propensities[choice.actions == 8], 0.9 + 0.1 / 21)
    np.testing.assert_allclose(choice.propensities[choice.actions != 8], 0.1 / 21)


def test_mix_keeps_the_version_of_its_rule() -> None:
    assert EpsilonMix(ScriptedRule(), 0.2).version == ScriptedRule.version == "scripted"
    assert isinstance(ScriptedRule(), Rule)
    assert isinstance(NETWORK, Rule)


@pytest.mark.parametrize("epsilon", [-0.01, 1.01, float("nan")])
def test_mix_refuses_an_epsilon_that_is_no_probability(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\]; got"):
        EpsilonMix(ScriptedRule(), epsilon)


def test_choose_never_takes_an_action_without_mass() -> None:
    class Edge:
        def __init__(self, value: float) -> None:
            self.value = value

        def random(self, size: tuple[int, int], /) -> NDArray[np.float64]:
            return np.full(size, self.value)

    base = one_hot(np.array([0, 20, 7]), N)
    base[2, 3] = base[2, 7] = 0.5
    legal = base > 0
    for value in (0.0, 1.0 - 2.0**-53):
        for epsilon in (0.0, 1.0):
            choice = choose(base, legal, epsilon, Edge(value))
            assert legal[np.arange(3), choice.actions].all()


@given(st.integers(0, 2**64 - 1), st.integers(1, 30), st.integers(1, 4))
def test_row_random_depends_on_key_and_calls_alone(key: int, n: int, k: int) -> None:
    keys = np.arange(n, dtype=np.uint64) + np.uint64(key) // np.uint64(2)
    together, alone = RowRandom(keys), [RowRandom(keys[i : i + 1]) for i in range(n)]
    for _ in range(3):
        drawn = together.random((n, k))
        assert ((drawn >= 0) & (drawn < 1)).all()
        np.testing.assert_array_equal(drawn, np.concatenate([a.random((1, k)) for a in alone]))
    some = together.rows(np.array([n - 1])).random((1, k))
    np.testing.assert_array_equal(some, alone[n - 1].random((1, k)))
    together.restart(np.array([0]), keys[:1])
    np.testing.assert_array_equal(
        together.rows(np.array([0])).random((1, k)), RowRandom(keys[:1]).random((1, k))
    )


def test_row_random_is_uniform_across_rows_and_calls() -> None:
    source = RowRandom(np.arange(500, dtype=np.uint64))
    drawn = np.stack([source.random((500, 2)) for _ in range(40)])
    assert abs(drawn.mean() - 0.5) < 0.006
    assert abs(drawn.var() - 1 / 12) < 0.002
    for axis in range(3):
        pairs = np.corrcoef(
            drawn.take(range(drawn.shape[axis] - 1), axis).ravel(),
            drawn.take(range(1, drawn.shape[axis]), axis).ravel(),
        )
        assert abs(pairs[0, 1]) < 0.03


def test_row_random_refuses_a_batch_of_another_size() -> None:
    with pytest.raises(ValueError, match="a row for each of 3 streams"):
        RowRandom(np.arange(3, dtype=np.uint64)).random((2, 2))
