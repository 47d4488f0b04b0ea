from __future__ import annotations

import numpy as np
import pytest

from games.arena import rules
from games.arena.practice import ArenaPractice
from games.arena.record import episodes
from schemas.practice import ARCHETYPES, Head, Practice, Result, View

HEADS: tuple[Head, ...] = ("combat", "movement", "skill", "aim")


def played(seed: int, n_steps: int = 50) -> list[tuple[View, Result]]:
    world = ArenaPractice()
    world.begin("combat", 4, seed)
    return [world.step(None) for _ in range(n_steps)]


def test_world_is_a_practice_with_six_archetypes_side_by_side() -> None:
    world: Practice = ArenaPractice()
    layout = world.layout
    for head in HEADS:
        view = world.begin(head, 3, seed=1)
        assert view.observation.shape == (6, 15, 64)
        assert view.legal.shape == (6, 15, layout.n_actions[head])
        assert view.enemies.shape == (6, 15, layout.n_enemies, layout.n_enemy_features)
        assert view.maps().shape == (6, 15, *layout.map_shape)
        assert view.alive.all() and view.first.all()
        assert view.observation.dtype == np.float32
    assert layout.skills.shape[0] == layout.n_actions["skill"]


def test_equal_seeds_give_equal_matches_and_others_do_not() -> None:
    for (view, result), (again, result_again) in zip(played(1), played(1), strict=True):
        assert np.array_equal(view.observation, again.observation)
        assert np.array_equal(result.reward, result_again.reward)
    (view, _), (other, _) = played(1)[-1], played(2)[-1]
    assert not np.array_equal(view.observation, other.observation)


def test_play_of_the_script_itself_mirrors_in_the_two_matches_of_a_start() -> None:
    scores = ArenaPractice().play("combat", None, 20, seed=5)
    assert scores.shape == (6, 20)
    assert np.array_equal(scores[:, ::2] + scores[:, 1::2], np.ones((6, 10), np.float32))


def test_a_match_does_not_depend_on_those_beside_it() -> None:
    alone = ArenaPractice(["mage"]).play("aim", lambda view: np.zeros((1, 10, 2)), 2, seed=9)
    beside = ArenaPractice(["mage"]).play("aim", lambda view: np.zeros((1, 40, 2)), 8, seed=9)
    assert np.array_equal(alone[0], beside[0, :2])


def test_illegal_choice_is_refused_with_its_place() -> None:
    world = ArenaPractice()
    view = world.begin("combat", 1, seed=1)
    choice = np.zeros(view.alive.shape, np.int64)
    choice[2, 3] = rules.NEAREST
    assert not view.legal[2, 3, rules.NEAREST]
    with pytest.raises(ValueError, match=r"choice\[2, 3\] of combat must be legal by its mask"):
        world.step(choice)
    with pytest.raises(ValueError, match="shaped"):
        world.step(choice[:1])
    world.begin("aim", 1, seed=1)
    with pytest.raises(ValueError, match="finite"):
        world.step(np.full((6, 5, 2), np.nan))


def test_arguments_out_of_range_are_refused() -> None:
    world = ArenaPractice()
    with pytest.raises(ValueError, match="difficulty must be 0 to 4, .* got 5"):
        world.begin("combat", 1, 1, difficulty=5)
    with pytest.raises(ValueError, match="n_matches must be at least 1; got 0"):
        world.begin("combat", 0, 1)
    with pytest.raises(ValueError, match="archetypes must be among"):
        ArenaPractice(["wizard"])


def test_ends_are_told_apart_and_matches_begin_anew() -> None:
    world = ArenaPractice()
    view = world.begin("movement", 4, seed=3)
    n_ended = 0
    for _ in range(rules.LIMIT + 1):
        before = view
        view, result = world.step(None)
        assert not (result.terminated & result.truncated).any()
        assert not (result.terminated & ~before.alive).any()
        assert np.abs(result.reward).max() <= 1.0
        n_ended += len(result.matches)
        assert view.first.reshape(24, 5).any(axis=1).sum() == len(result.matches)
        gone = before.alive & ~view.alive
        assert (result.terminated[gone]).all()
    assert n_ended > 24
    assert {s for s, _ in result.matches} <= set(range(6))


def test_threat_is_what_enemies_did_and_the_same_for_a_pack() -> None:
    world = ArenaPractice()
    world.begin("combat", 2, seed=4)
    total = np.zeros((6, 10, 5), np.float32)
    for _ in range(60):
        _, result = world.step(None)
        assert (result.threat >= 0).all()
        total += result.threat
    assert (total.reshape(6, 2, 5, 5) == total.reshape(6, 2, 5, 5)[:, :, :1]).all()
    assert (total.sum(axis=(1, 2)) > 1).all()


def test_gains_of_a_pack_are_what_it_dealt_and_what_its_own_life_rose_or_fell_by() -> None:
    world = ArenaPractice()
    world.begin("combat", 4, seed=5)
    rose = 0
    for _ in range(40):
        before = world.arena.hp[0].mean(axis=0)
        view, result = world.step(None)
        assert result.gain is not None
        arena, full = world.arena, world.arena.stat["hit_points"][0, 0]
        lost = before - arena.hp[0].mean(axis=0)
        own = (arena.dealt[0].mean(axis=0) - lost) / full
        goes_on = ~view.first.reshape(24, 5).any(axis=1)
        gained = result.gain.reshape(24, 5).sum(axis=1)
        np.testing.assert_allclose(gained[goes_on], own[goes_on], atol=1e-5)
        rose += int((lost[goes_on] < -0.1).sum())
    assert rose > 0  # some were healed


def test_recorded_episodes_are_unbroken_legal_and_say_how_likely_they_were() -> None:
    found = episodes(ArenaPractice(["support", "ranged"]), 1500, seed=2)
    assert list(found) == ["support", "ranged"]
    for rows in found.values():
        assert len(rows) == 1500
        every = np.arange(1500)
        for head in ("combat", "movement", "skill"):
            assert rows.legal[head][every, rows.action[head]].all()
            assert ((rows.propensity[head] > 0) & (rows.propensity[head] <= 1)).all()
        inner = ~rows.first[1:]
        assert (rows.step[1:][inner] == rows.step[:-1][inner] + 1).all()
        assert np.array_equal(rows.observation[1:][inner], rows.next_observation[:-1][inner])
        ended = np.append(rows.first[1:], True)
        assert np.array_equal(rows.terminated | rows.truncated, ended)
        assert not rows.next_observation[rows.terminated].any()
        assert rows.target.max() < rules.N_PATCHES
        assert set(rows.enemy_kind) <= set(range(len(ARCHETYPES)))
    again = episodes(ArenaPractice(["support", "ranged"]), 1500, seed=2)
    assert np.array_equal(again["ranged"].observation, found["ranged"].observation)


def test_recorded_maps_show_oneself_and_the_target_is_where_one_went() -> None:
    rows = episodes(ArenaPractice(["tank"]), 400, seed=2, maps=True)["tank"]
    assert rows.maps is not None
    own = rows.maps[:, 3].reshape(400, -1)
    assert (own.sum(axis=1) == 255).all()
    row, column = np.divmod(own.argmax(axis=1), rules.MAP_SIZE)
    patch = row // rules.PATCH * (rules.MAP_SIZE // rules.PATCH) + column // rules.PATCH
    later = np.flatnonzero(
        (rows.step[8:] == rows.step[:-8] + 8) & (rows.actor[8:] == rows.actor[:-8])
    )
    assert (rows.target[later] == patch[later + 8]).all()
