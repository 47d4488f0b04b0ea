"""What the mask says, held against what the real engine then does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from games.battle.legal import HITS, MOVES, STAY, column, legal_actions
from games.battle.world import (
    ATTACK_REWARD,
    BLUE,
    HIT_REWARD,
    KILL_REWARD,
    N_MOVES,
    PACK_SIZE,
    RED,
    STEP_REWARD,
    BattleWorld,
)

EMPTY = np.zeros((1, 845), dtype=np.float32)
STAYS = np.full(PACK_SIZE, STAY)


class Tried(NamedTuple):
    """One agent tried one action while all others stayed."""

    legal: bool
    reward: float
    shift: tuple[int, int]


def scattered(world: BattleWorld, seed: int, steps: int = 5) -> list[list[NDArray[np.int64]]]:
    """Plays seeded actions and returns them, so that the position can be come to again."""
    rng = np.random.default_rng(seed)
    world.reset(seed)
    history = []
    for _ in range(steps):
        # Mostly towards the other pack, so that they meet in the middle.
        towards = [
            rng.choice([7, 8, 11, 3, 6], world.alive(RED)),
            rng.choice([5, 4, 9, 1, 6], world.alive(BLUE)),
        ]
        chosen = [
            np.where(rng.random(len(t)) < 0.3, rng.integers(0, 13, len(t)), t) for t in towards
        ]
        world.step(*chosen)
        history.append(chosen)
    return history


def try_all(seed: int) -> list[tuple[int, Tried]]:
    """Tries every action of every agent of red from one position of a real world."""
    world = BattleWorld()
    history = scattered(world, seed)
    masks = legal_actions(world.observations(RED))
    before = world.positions(RED).copy()
    tried = []
    for agent in range(len(masks)):
        for action in range(21):
            world.reset(seed)
            for red, blue in history:
                world.step(red, blue)
            chosen = np.full(world.alive(RED), STAY)
            chosen[agent] = action
            acted, _ = world.step(chosen, np.full(world.alive(BLUE), STAY))
            dx, dy = (world.positions(RED)[agent] - before[agent]).tolist()
            tried.append(
                (action, Tried(bool(masks[agent, action]), float(acted.rewards[agent]), (dx, dy)))
            )
    return tried


@pytest.fixture(scope="module")
def tries() -> list[tuple[int, Tried]]:
    return [one for seed in range(12) for one in try_all(seed)]


def test_legal_moves_go_where_they_say_and_others_nowhere(tries: list[tuple[int, Tried]]) -> None:
    moves = [(action, one) for action, one in tries if action < N_MOVES]
    assert sum(not one.legal for _, one in moves) > 50
    for action, one in moves:
        assert one.shift == (MOVES[action] if one.legal else (0, 0)), (action, one)


def test_legal_hits_hit_and_others_miss(tries: list[tuple[int, Tried]]) -> None:
    hits = [(action, one) for action, one in tries if action >= N_MOVES]
    assert sum(one.legal for _, one in hits) > 20
    for action, one in hits:
        missed = STEP_REWARD + ATTACK_REWARD
        good = {round(missed + HIT_REWARD, 3), round(missed + KILL_REWARD, 3)}
        assert (round(one.reward, 3) in good) == one.legal, (action, one)
        assert one.legal or round(one.reward, 3) == round(missed, 3)


def test_legal_without_anything_in_view_is_every_move_and_no_hit() -> None:
    mask = legal_actions(EMPTY)[0]
    assert mask[:N_MOVES].all()
    assert not mask[N_MOVES:].any()


def test_legal_staying_is_always_legal() -> None:
    crowded = np.ones((1, 845), dtype=np.float32)
    crowded[0, column(0, 0, 0)] = 0
    mask = legal_actions(crowded)[0]
    assert mask[STAY]
    assert mask[:N_MOVES].sum() == 1
    assert mask[N_MOVES:].all()


@pytest.mark.parametrize("channel", [0, 1, 3])
def test_legal_each_kind_of_obstacle_closes_its_square_alone(channel: int) -> None:
    for action, (dx, dy) in enumerate(MOVES):
        if (dx, dy) == (0, 0):
            continue
        seen = EMPTY.copy()
        seen[0, column(dx, dy, channel)] = 1
        closed = set(np.flatnonzero(~legal_actions(seen)[0, :N_MOVES]).tolist())
        beyond = {MOVES.index((2 * dx, 2 * dy))} if abs(dx) + abs(dy) == 1 else set()
        assert closed == ({action} | beyond if channel == 0 else {action})


def test_legal_hits_are_the_squares_of_the_enemy() -> None:
    for index, (dx, dy) in enumerate(HITS):
        seen = EMPTY.copy()
        seen[0, column(dx, dy, 3)] = 1
        assert np.flatnonzero(legal_actions(seen)[0, N_MOVES:]).tolist() == [index]


def test_legal_is_the_same_for_a_row_in_any_batch() -> None:
    world = BattleWorld()
    scattered(world, 5)
    seen = np.concatenate([world.observations(RED), world.observations(BLUE)])
    whole = legal_actions(seen)
    for row in range(len(seen)):
        assert (legal_actions(seen[row : row + 1])[0] == whole[row]).all()
    assert legal_actions(seen[:0]).shape == (0, 21)
