from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.policies import RandomPolicy
from games.battle.legal import HITS, MOVES, STAY, column, legal_actions
from games.battle.matches import play_matches
from games.battle.scripted import ScriptedPolicy, ScriptedRule
from games.battle.world import N_MOVES
from games.match import tally
from games.seeds import match_seeds


def seen_enemies(*squares: tuple[int, int]) -> NDArray[np.float32]:
    seen = np.zeros((1, 845), dtype=np.float32)
    for dx, dy in squares:
        seen[0, column(dx, dy, 3)] = 1
    return seen


def chosen(seen: NDArray[np.float32]) -> int:
    rows = ScriptedRule().distribution(seen, legal_actions(seen))
    assert rows[0].max() == 1
    return int(rows[0].argmax())


def test_scripted_hits_an_adjacent_enemy() -> None:
    for index, square in enumerate(HITS):
        assert chosen(seen_enemies(square)) == N_MOVES + index


def test_scripted_walks_to_the_nearest_enemy() -> None:
    assert MOVES[chosen(seen_enemies((5, 0), (-6, 0)))] == (2, 0)
    assert MOVES[chosen(seen_enemies((1, -2), (3, 0)))] == (0, -2)
    assert MOVES[chosen(seen_enemies((3, 3)))] == (1, 1)
    assert MOVES[chosen(seen_enemies((0, -6)))] == (0, -2)


def test_scripted_waits_for_an_enemy_on_the_square_it_would_go_to() -> None:
    assert chosen(seen_enemies((0, -2), (3, 0))) == STAY


def test_scripted_prefers_the_first_row_of_equally_near_ones() -> None:
    assert MOVES[chosen(seen_enemies((0, 4), (0, -4)))] == (0, -2)
    assert MOVES[chosen(seen_enemies((-4, 0), (4, 0)))] == (-2, 0)


def test_scripted_waits_behind_its_own() -> None:
    seen = seen_enemies((4, 0))
    seen[0, column(2, 0, 1)] = 1
    assert chosen(seen) == STAY


def test_scripted_wanders_among_legal_moves_without_an_enemy() -> None:
    seen = seen_enemies()
    seen[0, column(1, 0, 0)] = 1
    row = ScriptedRule().distribution(seen, legal_actions(seen))[0]
    assert (row > 0).tolist() == legal_actions(seen)[0].tolist()
    np.testing.assert_allclose(row[row > 0], 1 / (row > 0).sum())


@pytest.mark.slow
def test_scripted_against_itself_wins_two_fifths_and_draws_a_fifth() -> None:
    """120 seeds, so a standard error of 3 points; what the spec says of the pack."""
    counted = tally(
        play_matches(ScriptedPolicy(), ScriptedPolicy(), match_seeds("gate", "", "", 120))
    )
    assert counted.wins == counted.losses
    assert abs(counted.wins / counted.n - 0.40) < 0.09
    assert abs(counted.draws / counted.n - 0.20) < 0.09


def test_scripted_beats_the_random_pack_always() -> None:
    counted = tally(play_matches(ScriptedPolicy(), RandomPolicy(), match_seeds("gate", "", "", 20)))
    assert counted.wins == counted.n == 40


def test_scripted_rule_costs_microseconds() -> None:
    """A bound with a wide margin (seen: 2): the batch is worked through without a Python loop."""
    seen = np.repeat(seen_enemies((3, 1)), 500, axis=0)
    mask, rule = legal_actions(seen), ScriptedRule()
    before = time.process_time()
    rule.distribution(seen, mask)
    assert (time.process_time() - before) / 500 < 200e-6
