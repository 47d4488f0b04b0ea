"""The acting types by gradient of a policy: what they learn, and what they refuse."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from learners.model_types.actor_critic import OnPolicySettings
from learners.model_types.base import LearnError, Stack, TypeSettings
from learners.model_types.movement_ppo import MovementSettings
from learners.model_types.registry import model_type
from learners.model_types.soft_actor_critic import SacSettings
from learners.model_types.team_coordination import TeamSettings
from schemas.practice import Episodes, Floats, View
from tests.learners.model_types.toy import ToyLayout, ToyWorld, toy_episodes

PPO: dict[str, Any] = {
    "learning_rate": 5e-3, "discount": 0.5, "updates": 300, "practise_every": 8,
    "practice_matches": 4, "layer_norm": True,
}  # fmt: skip
SMALL: dict[str, TypeSettings] = {
    "movement_ppo": MovementSettings(
        shared=(), actor=(32,), critic=(32,), batch=128, fragment_steps=24, **PPO
    ),
    "team_coordination": TeamSettings(
        width=24, n_layers=1, critic=(32,), batch=8, piece_steps=8, burn_in=4, fragment_steps=28,
        **PPO,
    ),
    "soft_actor_critic": SacSettings(
        actor=(32, 32), critic=(32, 32), learning_rate=3e-3, discount=0.5, batch=64, updates=300,
        practise_every=10, practice_matches=8, practice_steps=12, first_temperature=0.05,
    ),
}  # fmt: skip
NAMES = list(SMALL)
CPU = torch.device("cpu")


def _make(name: str, seeds: list[int], **changed: Any) -> Stack:
    settings = msgspec.structs.replace(SMALL[name], **changed)
    return model_type(name).make(settings, ToyLayout(), seeds, [1.0] * len(seeds), CPU)


def _practised(stack: Stack, name: str, n: int, begin: int = 0) -> None:
    world = ToyWorld(stack.n_models)
    for u in range(begin, begin + n):
        if u % SMALL[name].practise_every == 0:
            stack.practise(world, u)
        stack.update()


def _digest(stack: Stack) -> str:
    whole = hashlib.sha256()
    for key, value in sorted(stack.state().items()):
        whole.update(key.encode() + value.numpy().tobytes())
    return whole.hexdigest()


def _score(stack: Stack, name: str) -> Floats:
    head = model_type(name).acts
    assert head is not None
    scores: Floats = ToyWorld(stack.n_models).play(head, stack.act, 8, 99).mean(1)
    return scores


@pytest.mark.parametrize("name", NAMES)
def test_learns_the_toy_world_by_practice(name: str) -> None:
    stack = _make(name, [1, 2])
    before = _score(stack, name)
    _practised(stack, name, 400 if name == "soft_actor_critic" else 150)
    assert (before < 0.8).all()
    assert (_score(stack, name) > 0.95).all()


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_bit_for_bit_from_a_state(name: str) -> None:
    rows = [toy_episodes(4, s) for s in range(2)]
    first = _make(name, [1, 2], clone_updates=12)
    first.fit(rows)
    _practised(first, name, 22)
    second = _make(name, [7, 8], clone_updates=12)
    second.fit(rows)
    second.restore(first.state())
    _practised(first, name, 12, 22)
    _practised(second, name, 12, 22)
    assert _digest(first) == _digest(second)


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_make_equal_weights(name: str) -> None:
    digests = []
    for seeds in ([1, 2], [1, 2], [1, 3]):
        stack = _make(name, seeds)
        _practised(stack, name, 12)
        digests.append(_digest(stack))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("name", NAMES)
def test_stack_of_two_is_two_stacks_of_one(name: str) -> None:
    """Models of unequal logs: neither rows nor draws nor gradients leak from one to the other."""
    rows = [toy_episodes(5, 0), toy_episodes(3, 1)]
    whole = _make(name, [1, 2], clone_updates=100)
    alone = [_make(name, [seed], clone_updates=100) for seed in (1, 2)]
    whole.fit(rows)
    for stack, part in zip(alone, rows, strict=True):
        stack.fit([part])
    for _ in range(10):
        told = whole.update().loss
        np.testing.assert_allclose(told, [s.update().loss[0] for s in alone], rtol=1e-3, atol=1e-5)
    for key, module in whole.modules().items():
        for i, stack in enumerate(alone):
            single = stack.modules()[key].state_dict()
            for weight, value in module.state_dict().items():
                torch.testing.assert_close(value[i], single[weight][0], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_clones_the_better_choices_of_a_log(name: str) -> None:
    """Half of the log's choices are at random; none of them earns anything."""
    stack = _make(name, [1, 2], clone_updates=300, practice_matches=0)
    rows = [toy_episodes(20, s) for s in range(2)]
    stack.fit(rows)
    assert stack.practise(ToyWorld(2), 0) == {}
    for _ in range(120):
        stack.update()
    assert (_score(stack, name) > 0.95).all()
    held_out = stack.judge([toy_episodes(6, 50, epsilon=0.0), toy_episodes(6, 51, epsilon=0.0)])
    if name == "soft_actor_critic":
        assert (held_out["aim_error"] < 0.02).all()
    else:
        assert (held_out["loss"] < 0.5 * held_out["trivial"]).all()
        assert (held_out["agreement"] > 0.95).all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_learn_from_is_said(name: str) -> None:
    with pytest.raises(LearnError, match="rows must be at least 1 to learn from; got 0"):
        _make(name, [1]).update()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_is_said(name: str) -> None:
    rows = toy_episodes(4)
    rows = dataclasses.replace(rows, reward=np.full_like(rows.reward, np.inf))
    stack = _make(name, [1], clone_updates=5)
    stack.fit([rows])
    with pytest.raises(LearnError, match=r"loss\[0\] must be finite; got"):
        for _ in range(3):
            stack.update()


@pytest.mark.parametrize("name", ["movement_ppo", "team_coordination"])
def test_illegal_choices_are_never_made(name: str) -> None:
    stack = _make(name, [1, 2])
    world = ToyWorld(2)
    head = model_type(name).acts
    assert head is not None
    view = world.begin(head, 30, 0)
    for greedy in (True, False):
        choice = stack.act(view, greedy=greedy)
        assert np.take_along_axis(view.legal, choice[..., None], 2).all()


@pytest.mark.parametrize("name", ["movement_ppo", "team_coordination"])
def test_rows_of_which_none_was_cut_are_learned_from(name: str) -> None:
    rows = toy_episodes(4)
    rows = dataclasses.replace(
        rows, terminated=rows.terminated | rows.truncated, truncated=np.zeros(len(rows), np.bool_)
    )
    stack = _make(name, [1], clone_updates=5)
    stack.fit([rows])
    assert np.isfinite(stack.update().loss).all()


def test_practice_moves_a_policy_that_was_cloned() -> None:
    """Cloning's gradients are larger than PPO's: their second moments would hold it still."""
    moved = []
    for fresh in (False, True):
        stack = _make("team_coordination", [1], clone_updates=64, fresh_moments=fresh)
        stack.fit([toy_episodes(20, 0)])
        world = ToyWorld(1)
        for u in range(72):
            if u % 8 == 0:
                stack.practise(world, u)
            told = stack.update().scalars["approx_kl"]
        moved.append(float(told[0]))
    assert moved[1] > moved[0]


def _versioned(rows: Episodes, version: int) -> Episodes:
    return dataclasses.replace(rows, policy_version=np.full(len(rows), version))


def test_ppo_takes_fresh_rows_and_refuses_old_ones() -> None:
    """Only rows of the newest versions reach PPO's loss; without a log to clone that is all."""
    rows = toy_episodes(12, 0)
    both = dataclasses.replace(rows, policy_version=np.where(rows.match < 6, 9, 4))
    fresh = both.take(np.flatnonzero(both.policy_version == 9))
    one, two = _make("movement_ppo", [1], max_lag=2), _make("movement_ppo", [1], max_lag=2)
    one.fit([fresh])
    two.fit([both])
    two.modules()["net"].load_state_dict(one.modules()["net"].state_dict())  # the normaliser
    told = [one.update(), two.update()]
    assert told[0].scalars["rho"] < 1.0  # the log's behaviour was another policy
    np.testing.assert_allclose(told[0].loss, told[1].loss, rtol=1e-4)


def test_ppo_corrects_late_rows_and_learns_from_them() -> None:
    stack = _make("movement_ppo", [1, 2], max_lag=2, updates=400)
    stack.fit([_versioned(toy_episodes(20, s, epsilon=1.0), 3) for s in range(2)])
    for _ in range(150):
        stack.update()
    assert (_score(stack, "movement_ppo") > 0.95).all()


def test_gathered_fragments_older_than_the_limit_are_dropped() -> None:
    for lag, kept in ((0, 1), (2, 3)):
        stack = _make("movement_ppo", [1], max_lag=lag)
        for seed in range(5):
            stack.practise(ToyWorld(1), seed)
            stack.update()
        assert len(stack.state()["versions"]) == kept


@pytest.mark.parametrize("changed", [{}, {"encoder": (24, 24), "skip": True}])
def test_a_pack_acts_alike_alone_and_step_by_step(changed: dict[str, Any]) -> None:
    """The exported graph, fed its own state, does what the stack does in a match."""
    stack = _make("team_coordination", [3, 4], **changed)
    _practised(stack, "team_coordination", 16)
    world = ToyWorld(2)
    view = world.begin("combat", 1, 5)
    graph = stack.graph(1)
    h = c = torch.zeros(5, 1, 24)
    for _ in range(8):
        choice = stack.act(view)
        with torch.no_grad():
            observation, legal = (torch.from_numpy(x[1]) for x in (view.observation, view.legal))
            scores, h, c = graph(observation, legal, h, c)
        np.testing.assert_array_equal(scores.argmax(1).numpy(), choice[1])
        view, _ = world.step(choice)


def test_recurrent_state_begins_anew_with_a_match() -> None:
    stack = _make("team_coordination", [3])
    world = ToyWorld(1)
    view = world.begin("combat", 2, 0)
    begun = stack.act(view, greedy=True)
    for _ in range(5):
        stack.act(world.step(stack.act(view))[0])
    again: View = dataclasses.replace(view, first=np.ones_like(view.first))
    np.testing.assert_array_equal(stack.act(again), begun)


@pytest.mark.parametrize("name", ["movement_ppo", "team_coordination"])
def test_an_update_begins_at_the_policy_that_gathered(name: str) -> None:
    """Pieces from the middle of a match, begun at kept states, give the chances they were drawn by.

    Else recurrent states were wrong, or time and actors mixed up.
    """
    stack = _make(name, [1, 2], batch=4)
    _practised(stack, name, 16)
    stack.practise(ToyWorld(2), 99)
    told = stack.update().scalars
    np.testing.assert_allclose(told["approx_kl"], 0.0, atol=1e-6)
    np.testing.assert_allclose(told["rho"], 1.0, atol=1e-4)
    assert (told["clip_fraction"] == 0).all()


def test_burn_in_makes_up_for_states_of_an_older_policy() -> None:
    """A state that is wrong by far moves the choices less after each step of the burn-in."""
    stack = _make("team_coordination", [3])
    _practised(stack, "team_coordination", 16)
    graph = stack.graph(0)
    rows = toy_episodes(1)
    observation, legal = (torch.from_numpy(c[:1]) for c in (rows.observation, rows.legal["combat"]))
    true, wrong = torch.zeros(2, 1, 1, 24), torch.ones(2, 1, 1, 24)
    apart = []
    for _ in range(SMALL["team_coordination"].burn_in + 1):  # type: ignore[attr-defined]
        with torch.no_grad():
            scores, *true = graph(observation, legal, *true)
            others, *wrong = graph(observation, legal, *wrong)
        apart.append(float((scores - others)[legal].abs().max()))
    assert apart[-1] < 0.5 * apart[0]


def test_scores_see_past_the_recurrent_layer_where_it_is_skipped() -> None:
    """Two observations that the recurrent layer takes for one get unlike scores all the same."""
    rows = toy_episodes(2)
    observation = torch.from_numpy(rows.observation[:20])
    legal = torch.ones(20, rows.legal["combat"].shape[1], dtype=torch.bool)
    state = torch.zeros(20, 1, 24)
    told = []
    for skip in (False, True):
        stack = _make("team_coordination", [3], skip=skip)
        _practised(stack, "team_coordination", 16)
        graph = stack.graph(0)
        with torch.no_grad():
            for weight in graph.actor.lstm.parameters():  # type: ignore[union-attr]
                weight.zero_()
            scores, _, _ = graph(observation, legal, state, state)
        told.append(float(scores.std(0).max()))
    assert told[0] == 0.0 < told[1]


def test_critics_settle_while_the_actor_practises_as_it_is() -> None:
    stack = _make("soft_actor_critic", [1, 2], clone_updates=10, settle_updates=20)
    stack.fit([toy_episodes(4, s) for s in range(2)])
    world, name = ToyWorld(2), "soft_actor_critic"

    def weights(part: str) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in stack.modules()[part].parameters()])

    _practised(stack, name, 10)
    actor, critics, temperature = (weights(n) for n in ("actor", "critics", "temperature"))
    assert stack.practise(world, 0)
    _practised(stack, name, 20, 10)
    assert torch.equal(weights("actor"), actor)
    assert torch.equal(weights("temperature"), temperature)
    assert not torch.equal(weights("critics"), critics)
    _practised(stack, name, 2, 30)
    assert not torch.equal(weights("actor"), actor)


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_settings_of_their_type(name: str) -> None:
    kind = model_type(name)
    classic, modern = kind.preset("classic"), kind.preset("modern")
    assert isinstance(classic, kind.settings) and isinstance(modern, kind.settings)
    assert kind.name == name
    if isinstance(modern, OnPolicySettings) and isinstance(classic, OnPolicySettings):
        assert (classic.clip, classic.trace) == (0.2, 0.97)
        # the first practice is asked for as soon as cloning is over
        assert modern.clone_updates % modern.practise_every == 0
