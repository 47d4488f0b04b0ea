"""S rings side by side: what they draw, and that none depends on its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learners.replay.form import Batch, RowForm, Steps
from learners.replay.stacked import PRIORITY_FLOOR, StackedReplay

D, A = 3, 5
FORM = RowForm(D, A, storage="float32", columns={"propensity": ((), "float32")})


def steps(n: int, seed: int = 0, n_actors: int = 4, length: int = 7, say: bool = True) -> Steps:
    """Steps of actors that take turns; episodes of ``length`` steps end in turns of both kinds."""
    rng = np.random.default_rng(seed)
    row = np.arange(n)
    actor, tick = row % n_actors, row // n_actors
    step, episode = tick % length, tick // length
    ends = step == length - 1
    observation = np.stack([actor, episode, step], 1).astype(np.float32)
    following = observation.copy()
    following[:, 2] += 1
    return Steps(
        observation=observation,
        action=rng.integers(0, A, n),
        reward=rng.normal(size=n).astype(np.float32),
        terminated=ends & (episode % 2 == 0),
        truncated=ends & (episode % 2 == 1),
        actor=actor, step=step, episode=episode,
        legal=rng.random((n, A)) < 0.7,
        next_observation=following if say else np.where(ends[:, None], following, 0),
        has_next=None if say else ends,
        columns={"propensity": rng.random(n).astype(np.float32)},
    )  # fmt: skip


def replay(seeds: tuple[int, ...] = (1,), capacity: int = 400, **changes: Any) -> StackedReplay:
    return StackedReplay(FORM, capacity, seeds, **changes)


def same(ours: Batch, theirs: Batch, i: int = 0, j: int = 0) -> bool:
    names = [name for name in ours.__struct_fields__ if name != "columns"]
    return all(
        np.array_equal(getattr(ours, name)[i], getattr(theirs, name)[j]) for name in names
    ) and np.array_equal(ours.columns["propensity"][i], theirs.columns["propensity"][j])


@pytest.mark.parametrize("say", [True, False])
def test_batches_have_their_shapes_and_rows(say: bool) -> None:
    ring, given = replay((1, 2)), steps(300, say=say)
    for model in (0, 1):
        ring.add(model, given)
    batch = ring.sample(32)
    assert batch.observation.shape == batch.next_observation.shape == (2, 32, D)
    assert batch.legal.shape == batch.next_legal.shape == (2, 32, A)
    assert batch.reward.shape == batch.weight.shape == batch.slots.shape == (2, 32)
    row = batch.slots
    assert np.array_equal(batch.observation, given.observation[row])
    assert np.array_equal(batch.reward, given.reward[row])
    assert np.array_equal(batch.action, given.action[row])
    assert given.legal is not None
    assert np.array_equal(batch.legal, given.legal[row])
    assert np.array_equal(batch.columns["propensity"], given.columns["propensity"][row])
    ended = given.terminated[row]
    assert np.array_equal(batch.discount, np.where(ended, np.float32(0), np.float32(0.99)))
    following = batch.observation + [0, 0, 1]
    assert np.array_equal(batch.next_observation[~ended], following[~ended])


def test_a_model_draws_as_if_it_were_alone() -> None:
    both, first, second = replay((1, 2)), replay((1,)), replay((2,))
    for model, alone, seed in ((0, first, 5), (1, second, 6)):
        both.add(model, steps(333, seed))
        alone.add(0, steps(333, seed))
    rng = np.random.default_rng(0)
    for _ in range(5):
        batch, one, other = both.sample(64), first.sample(64), second.sample(64)
        assert same(batch, one)
        assert same(batch, other, 1)
        errors = rng.normal(0, 3, (2, 64)).astype(np.float32)
        both.set_errors(batch.slots, errors)
        first.set_errors(one.slots, errors[:1])
        second.set_errors(other.slots, errors[1:])


def test_draws_follow_priorities() -> None:
    ring = replay(alpha=1.0, beta=0.5)
    ring.add(0, steps(40, n_actors=1, length=100))
    n = int(ring.sizes[0])
    errors = np.random.default_rng(3).exponential(size=(1, n)).astype(np.float32)
    ring.set_errors(np.arange(n)[None], errors)
    wanted = (np.abs(errors[0]) + PRIORITY_FLOOR) / (np.abs(errors[0]) + PRIORITY_FLOOR).sum()
    counts = np.zeros(n)
    for _ in range(2_000):  # batches of one: without strata every draw is free
        counts += np.bincount(ring.sample(1).slots[0], minlength=n)
    chi2 = float((np.square(counts - 2_000 * wanted) / (2_000 * wanted)).sum())
    assert chi2 < n + 4 * np.sqrt(2 * n)  # four deviations
    batch = ring.sample(50)
    rarest = wanted[batch.slots[0]].min()
    assert batch.weight[0] == pytest.approx((wanted[batch.slots[0]] / rarest) ** -0.5, rel=1e-4)


@pytest.mark.parametrize("capacity", [64, 400])
def test_restored_replay_goes_on_bit_for_bit(capacity: int) -> None:
    first, second = replay((1, 2), capacity, n_step=3), replay((8, 9), capacity, n_step=3)
    given = steps(300)
    for ring in (first, second):
        ring.add(0, steps(55, 7))
    first.add(1, given)
    first.set_errors(first.sample(16).slots, np.full((2, 16), 4.0))
    second.restore(first.state())
    for ring in (first, second):
        ring.add(0, steps(100, 8, say=False))
    for _ in range(3):
        ours, theirs = first.sample(32), second.sample(32)
        assert same(ours, theirs)
        assert same(ours, theirs, 1, 1)
    one, other = first.state(), second.state()
    assert one.keys() == other.keys()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_sequences_are_unbroken() -> None:
    ring = replay()
    ring.add(0, steps(300))
    found = ring.sample_sequences(64, length=4, burn_in=3)
    there = found.there[0]
    assert found.observation.shape == (1, 64, 7, D)
    assert (there[:, 1:] <= there[:, :-1]).all()
    inside = there[:, 1:]
    change = found.observation[0, :, 1:] - found.observation[0, :, :-1]
    assert (change[inside] == [0, 0, 1]).all()  # the same actor and episode, the next step
    assert not (found.terminated | found.truncated)[0, :, :-1][inside].any()
    last = there.sum(1) - 1
    ended = found.terminated[0, np.arange(64), last]
    assert np.array_equal(found.bootstraps[0], ~ended)
    behind = found.observation[0, np.arange(64), last] + [0, 0, 1]
    assert np.array_equal(found.last_observation[0, ~ended], behind[~ended])
    learned = found.learned[0].argmax(1)
    assert np.array_equal(
        found.observation[0, np.arange(64), learned, 2] % 7,
        learned + (found.observation[0, :, 0, 2]),
    )
