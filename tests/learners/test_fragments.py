"""Fragments keep time unbroken, whatever they were made from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from learners.fragments import Fragments, gather, is_fresh, joined, of_rows
from learners.model_types.base import LearnError
from learners.on_policy import Appraisal, Correction, Pool, Windows, appraise, sample
from schemas.practice import Episodes, Result, View
from tests.learners.model_types.toy import GAIN, STEPS, GainingWorld, ToyWorld, toy_episodes


def _every(rows: Episodes) -> np.ndarray:
    return np.ones(len(rows), np.bool_)


def test_gathered_fragments_follow_each_other_and_end_cut() -> None:
    world = ToyWorld(2)

    def act(t: int, view: View) -> tuple[np.ndarray, np.ndarray]:
        size = view.alive.shape
        return view.legal.argmax(-1), np.full(size, -t, np.float32)

    fragments, measures = gather(world, "movement", act, 2, STEPS + 6, 3)
    assert fragments.observation.shape == (2, STEPS + 6, 10, 8)
    assert fragments.first[:, [0, STEPS]].all()
    assert fragments.first.sum() == 2 * 10 * 2
    # the toy's even matches are cut at the limit, its odd ones terminate
    assert fragments.truncated[:, STEPS - 1, :5].all()
    assert fragments.terminated[:, STEPS - 1, 5:].all()
    assert fragments.truncated[:, -1].all()
    assert (fragments.log_behaviour[:, 4] == -4).all()
    assert measures["win_rate"].tolist() == [1.0, 1.0]
    assert measures["episode_length"].tolist() == [9.0, 9.0]


def test_results_are_credited_to_all_of_a_pack_and_to_none_of_a_cut_match() -> None:
    """The toy's matches are won; its first (of five actors) is cut at the limit, not its second."""

    def act(t: int, view: View) -> tuple[np.ndarray, np.ndarray]:
        return view.legal.argmax(-1), np.zeros(view.alive.shape, np.float32)

    class Told(ToyWorld):
        """Tells every match that ended; actor 7 falls at step 3."""

        def step(self, choice: np.ndarray | None) -> tuple[View, Result]:
            view, result = super().step(choice)
            ended = [(s, 1.0) for s in range(2) for _ in range(2)] if result.matches else []
            view.alive[:, 7] = self._step % STEPS < 4
            return view, dataclasses.replace(result, matches=ended)

    plain, _ = gather(Told(2), "movement", act, 2, STEPS + 3, 3)
    paid, _ = gather(Told(2), "movement", act, 2, STEPS + 3, 3, result_weight=2.0)
    more = paid.reward - plain.reward
    assert more.sum() == 2 * 5 * 2.0
    assert (more[:, STEPS - 1, [5, 6, 8, 9]] == 2.0).all()
    assert (more[:, 3, 7] == 2.0).all()


def test_gains_are_paid_beside_a_share_of_the_rewards() -> None:
    def act(t: int, view: View) -> tuple[np.ndarray, np.ndarray]:
        return view.legal.argmax(-1), np.zeros(view.alive.shape, np.float32)

    plain, told = gather(GainingWorld(2), "movement", act, 2, STEPS, 3)
    paid, same = gather(
        GainingWorld(2), "movement", act, 2, STEPS, 3, reward_weight=0.5, gain_weight=3.0
    )
    np.testing.assert_allclose(paid.reward, 0.5 * plain.reward + 3.0 * GAIN, atol=1e-6)
    assert same["reward"].tolist() == told["reward"].tolist()  # what is told stays the world's own
    silent, _ = gather(ToyWorld(2), "movement", act, 2, STEPS, 3, gain_weight=3.0)
    assert np.array_equal(silent.reward, plain.reward)
    with pytest.raises(LearnError, match="gain_weight must be 0, or not all"):
        gather(ToyWorld(2), "movement", act, 2, 1, 3, reward_weight=0.0, gain_weight=3.0)


def test_rows_are_cut_in_pieces_in_order() -> None:
    rows = toy_episodes(n_matches=3)
    fragments = of_rows([rows], "combat", 5, [_every(rows)])
    assert fragments.valid.sum() == len(rows)
    # 12 steps are pieces of 5, 5 and 2
    assert fragments.valid[0].sum(0)[:3].tolist() == [5, 5, 2]
    np.testing.assert_array_equal(fragments.observation[0, :5, 1], rows.observation[5:10])
    np.testing.assert_array_equal(fragments.first[0, 0, :4], [True, False, False, True])
    # a piece that goes on elsewhere bootstraps; one that terminated does not
    assert fragments.truncated[0, 4, :2].all()
    ended = fragments.terminated[0] & fragments.valid[0]
    assert ended.sum() == rows.terminated.sum()
    assert not (fragments.truncated[0] & ended).any()
    np.testing.assert_allclose(
        fragments.log_behaviour[0, :5, 0], np.log(rows.propensity["combat"][:5])
    )


def test_packs_lie_side_by_side() -> None:
    rows = toy_episodes(n_matches=4)
    shuffled = rows.take(np.flatnonzero(rows.actor != 2))  # one actor of each pack is not there
    fragments = of_rows([shuffled], "combat", STEPS, [_every(shuffled)], pack=5)
    assert fragments.valid.shape == (1, STEPS, 20)
    assert not fragments.valid[0, :, 2::5].any()
    third = shuffled.take(np.flatnonzero((shuffled.match == 2) & (shuffled.actor == 4)))
    np.testing.assert_array_equal(fragments.observation[0, :, 14], third.observation)


def test_models_with_fewer_rows_are_padded() -> None:
    few, many = toy_episodes(n_matches=2), toy_episodes(n_matches=5)
    fragments = of_rows([few, many], "combat", STEPS, [_every(few), _every(many)])
    assert fragments.valid.sum((1, 2)).tolist() == [len(few), len(many)]
    assert joined([fragments, fragments]).valid.shape == (2, STEPS, 50)


def test_fresh_rows_are_those_of_the_newest_versions() -> None:
    rows = toy_episodes(n_matches=2)
    version = np.arange(len(rows)) % 5
    rows = dataclasses.replace(rows, policy_version=version)
    assert set(version[is_fresh(rows, 1)]) == {3, 4}
    assert set(version[is_fresh(rows, 9)]) == {1, 2, 3, 4}  # never the traditional AI's
    assert not is_fresh(dataclasses.replace(rows, policy_version=version * 0), 9).any()


def _pool(windows: Windows, n_steps: int = 12) -> Pool:
    rows = toy_episodes(n_matches=4)
    fragments = of_rows([rows, rows], "combat", n_steps, [_every(rows)] * 2, windows.pack)
    pool = Pool([fragments], windows, torch.device("cpu"))
    where = torch.arange(fragments.valid.size).view(fragments.valid.shape).float()
    states = torch.zeros(2, len(windows.starts(n_steps)), fragments.valid.shape[2], 2, 1, 3)
    pool.appraisal = Appraisal(where, where, where, where, states)
    return pool


def test_late_rows_are_appraised_by_hand() -> None:
    """Chosen with 1/2, 1 and 1 by an older policy, with 1, 1/2 and 1/4 by the present one."""
    rows = toy_episodes(n_matches=1).take(np.arange(3))
    fragments = of_rows([rows], "combat", 3, [_every(rows)])
    for name, values in (("reward", [1, 0, 2]), ("log_behaviour", np.log([0.5, 1, 1]))):
        getattr(fragments, name)[0, :, 0] = values
    fragments.terminated[0, :, 0] = [False, False, True]
    fragments.truncated[:] = False
    one = torch.ones(1, 3, 1)
    proximal = torch.tensor([1, 0.5, 0.25]).log().view(1, 3, 1)
    told = appraise(fragments, proximal, one, one, Correction(0.5, 0.5, 1.0, 1.0))
    torch.testing.assert_close(told.rho.flatten(), torch.tensor([1, 0.5, 0.25]))
    torch.testing.assert_close(told.target.flatten(), torch.tensor([1.4453125, 0.78125, 1.25]))
    advantage = torch.tensor([0.4453125, -0.4375, 1.0])
    advantage = (advantage - advantage.mean()) / advantage.std(correction=0)
    torch.testing.assert_close(told.advantage.flatten(), advantage)


def test_pool_gives_every_piece_once_before_any_twice() -> None:
    pool = _pool(Windows())
    rngs = [np.random.default_rng(i) for i in range(2)]
    seen = [pool.draw(rngs, 30).target for _ in range(8)]  # 4 x 5 x 12 = 240 rows
    for model in torch.cat(seen, 1).flatten(1):
        assert sorted(model.tolist()) == sorted(set(model.tolist()))
    assert not torch.equal(seen[0], pool.draw(rngs, 30).target)


def test_pieces_of_a_pack_warm_up_before_they_count() -> None:
    windows = Windows(n_steps=4, burn_in=4, pack=5)
    pool = _pool(windows)
    batch = pool.draw([np.random.default_rng(0)] * 2, 8)  # 4 packs x pieces at steps 0 and 4
    assert batch.observation.shape == (2, 8, 8, 5, 8)
    assert batch.states is not None and batch.states.shape == (2, 8, 5, 2, 1, 3)
    begins = batch.first[:, :, 0].all(-1)
    assert begins.sum() == 2 * 4
    assert batch.valid[begins].all()
    assert not batch.valid[~begins][:, :4].any()
    assert batch.valid[~begins][:, 4:].all()
    # each row counts once
    assert batch.valid.sum() == 2 * 4 * 5 * 12


def test_pool_goes_on_from_its_state() -> None:
    first, second = _pool(Windows()), _pool(Windows())
    rngs = [np.random.default_rng(i) for i in range(2)]
    first.draw(rngs, 50)
    second.restore(first.state("x."), "x.")
    assert torch.equal(first.draw(rngs, 50).target, second.draw(rngs, 50).target)


def test_pieces_longer_than_fragments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 steps; got 12"):
        _pool(Windows(n_steps=8, burn_in=8))


def test_fragments_come_back_from_tensors() -> None:
    rows = toy_episodes(n_matches=2)
    fragments = of_rows([rows], "combat", 6, [_every(rows)])
    again = Fragments.of_tensors(fragments.tensors("f."), "f.")
    for field in dataclasses.fields(Fragments):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(fragments, field.name))


def test_sample_follows_chances_and_never_takes_what_has_none() -> None:
    chances = np.array([0.0, 0.25, 0.75, 0.0], np.float32)
    with np.errstate(divide="ignore"):
        log_probs = np.broadcast_to(np.log(chances), (4000, 4))
    uniform = np.linspace(0, 1, 4000, dtype=np.float32)  # with both ends
    counts = np.bincount(sample(log_probs, uniform), minlength=4)
    assert counts[0] == counts[3] == 0
    np.testing.assert_allclose(counts[1:3] / 4000, [0.25, 0.75], atol=1e-3)
