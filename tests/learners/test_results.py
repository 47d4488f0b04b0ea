"""What a match's result pays, and whom."""

from __future__ import annotations

import numpy as np

from learners.results import credit, ended_matches

PACK = 2


def test_result_goes_to_each_actors_last_row_of_its_match() -> None:
    # one model, two matches of two actors, four steps; actor 1 falls in step 1 of match 0,
    # which is won in step 2; match 1 is lost in step 0 and won, as a new one, in step 3
    valid = np.ones((1, 4, 4), np.bool_)
    valid[0, 2, 1] = False
    reward = np.zeros((1, 4, 4), np.float32)
    limited = np.zeros_like(valid)
    ended = [(0, 0, 1, 0.0), (2, 0, 0, 1.0), (3, 0, 1, 1.0)]
    credit(reward, valid, limited, ended, PACK, weight=2.0)
    assert reward[0].tolist() == [
        [0.0, 0.0, -2.0, -2.0],
        [0.0, 2.0, 0.0, 0.0],
        [2.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 2.0, 2.0],
    ]


def test_match_that_reached_its_limit_and_a_drawn_one_pay_nobody() -> None:
    reward = np.zeros((1, 2, 4), np.float32)
    valid = np.ones((1, 2, 4), np.bool_)
    limited = np.zeros_like(valid)
    limited[0, 1, 0] = True
    credit(reward, valid, limited, [(1, 0, 0, 1.0), (1, 0, 1, 0.5)], PACK, weight=2.0)
    assert not reward.any()


def test_ended_matches_are_those_that_begin_anew() -> None:
    first = np.zeros((2, 4), np.bool_)
    first[0, 2:] = True
    first[1, :2] = True
    assert ended_matches(7, first, [(0, 1.0), (1, 0.0)], PACK) == [(7, 0, 1, 1.0), (7, 1, 0, 0.0)]
    assert ended_matches(7, first, [], PACK) == []
    assert ended_matches(7, first[:1], [(0, 1.0), (0, 0.0)], PACK) == []


def test_actor_that_was_never_seen_is_not_paid() -> None:
    valid = np.ones((1, 2, 2), np.bool_)
    valid[0, :, 1] = False
    reward = np.zeros((1, 2, 2), np.float32)
    credit(reward, valid, np.zeros_like(valid), [(1, 0, 0, 1.0)], PACK, weight=1.0)
    assert reward[0].tolist() == [[0.0, 0.0], [1.0, 0.0]]
