"""When stages are passed and lost, by hand."""

from __future__ import annotations

from learners.training.curriculum import WIN_LEVELS, Curriculum


def test_a_practice_of_easy_wins_passes_one_stage_only() -> None:
    curriculum = Curriculum(WIN_LEVELS, 2)
    curriculum.add_all([(0, 1.0)] * 200 + [(1, 0.0)] * 200)
    assert curriculum.difficulties() == [1, 0]
    assert curriculum.models[0].n_episodes == 0  # none of them was played in the new stage


def test_a_practice_of_losses_loses_one_stage_only() -> None:
    curriculum = Curriculum(WIN_LEVELS, 1, start=4)
    curriculum.add_all([(0, 0.0)] * 200)
    assert curriculum.difficulties() == [3]


def test_scores_of_one_practice_add_to_those_of_the_last() -> None:
    together, apart = Curriculum(WIN_LEVELS, 1), Curriculum(WIN_LEVELS, 1)
    scores = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    together.add_all([(0, score) for score in scores])
    for score in scores:
        apart.add_all([(0, score)])
    assert together.models == apart.models
    assert together.models[0].n_episodes == len(scores)
