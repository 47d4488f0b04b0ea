"""Losses and targets against numbers worked by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from learners.model_types.ahead import (
    OVER,
    UNKNOWN,
    begins,
    discounted_ahead,
    following,
    pack_steps,
)
from learners.model_types.pattern_recognition import contrastive_loss, neighbours
from learners.model_types.spatial_vit import choice_loss, flipped, frequencies
from learners.model_types.threat_assessment import mixed, normal_loss
from schemas.practice import Episodes
from tests.learners.model_types.toy import toy_episodes


def test_normal_loss_is_the_negative_log_likelihood() -> None:
    target, mean, variance = (torch.tensor([v]) for v in (3.0, 1.0, 4.0))
    # 0.5 ln(2 pi 4) + (3 - 1)^2 / (2 * 4)
    assert normal_loss(target, mean, variance).item() == pytest.approx(
        0.5 * math.log(8 * math.pi) + 0.5
    )
    weighed = normal_loss(target, mean, variance, beta=0.5)
    assert weighed.item() == pytest.approx(2.0 * (0.5 * math.log(8 * math.pi) + 0.5))


def test_mixture_has_the_spread_within_and_between_its_members() -> None:
    mean, variance = mixed(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [3.0]]))
    assert mean.item() == 1.0
    assert variance.item() == 3.0  # (1 + 3) / 2 within, ((0 - 1)^2 + (2 - 1)^2) / 2 between


def test_choice_loss_is_the_cross_entropy() -> None:
    logits = torch.tensor([[[math.log(1.0), math.log(3.0)]]])
    assert choice_loss(logits, torch.tensor([[1]])).item() == pytest.approx(-math.log(0.75))
    assert choice_loss(logits, torch.tensor([[0]])).item() == pytest.approx(-math.log(0.25))


def test_frequencies_count_each_choice_once_more() -> None:
    found = np.exp(frequencies(np.array([0, 0, 2]), 3))
    np.testing.assert_allclose(found, [3 / 6, 1 / 6, 2 / 6], rtol=1e-6)


def test_contrastive_loss_by_hand() -> None:
    """Anchors 0 and 1 are positives of each other, at a right angle; 2 is alone, opposite to 0."""
    z = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    label = torch.tensor([[0, 0, 1]])
    t = 0.5
    # z0 z1 = 0, z0 z2 = -1, z1 z2 = 0
    first = -math.log(math.exp(0 / t) / (math.exp(0 / t) + math.exp(-1 / t)))
    second = -math.log(math.exp(0 / t) / (math.exp(0 / t) + math.exp(0 / t)))
    expected = (first + second + 0.0) / 3
    assert contrastive_loss(z, label, t).item() == pytest.approx(expected)
    both = contrastive_loss(z.repeat(2, 1, 1), label.repeat(2, 1), t)
    assert both.shape == (2,)


def test_contrastive_loss_falls_as_a_kind_draws_together() -> None:
    label = torch.tensor([[0, 0, 1, 1]])
    apart = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])
    together = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    assert contrastive_loss(together, label, 0.1) < contrastive_loss(apart, label, 0.1)


def test_neighbours_vote_by_cosine() -> None:
    angles = torch.linspace(0, 1, 20)
    references = torch.stack([angles.cos(), angles.sin()], 1)[None]
    label = torch.tensor([[0] * 4 + [3] * 16])
    asked = torch.tensor([[[1.0, 0.0], [0.54, 0.84]]])
    # The ten nearest to angle 0 are 4 of kind 0 and 6 of kind 3.
    assert neighbours(asked, references, label).tolist() == [[3, 3]]
    label[0, 4] = label[0, 5] = 0
    assert neighbours(asked, references, label).tolist() == [[0, 3]]


def test_flips_move_target_and_map_together() -> None:
    maps = np.zeros((3, 1, 16, 24), np.uint8)  # patches: 2 rows, 3 columns
    maps[:, 0, 3, 20] = 9  # row 0, column 2
    target = np.array([2, 2, 5])
    across = np.array([True, False, True])
    turned, moved = flipped(maps, target, across, 3)
    assert moved.tolist() == [0, 2, 3]
    assert [np.argwhere(m[0]).tolist() for m in turned] == [[[3, 3]], [[3, 20]], [[3, 3]]]
    turned, moved = flipped(maps, target, across, 2)
    assert moved.tolist() == [5, 2, 2]
    assert [np.argwhere(m[0]).tolist() for m in turned] == [[[12, 20]], [[3, 20]], [[12, 20]]]


def test_sums_ahead_end_with_the_episode_and_are_unknown_behind_a_cut() -> None:
    values = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]], np.float32)
    behind = np.array([1, 2, OVER, 4, UNKNOWN])
    total, known = discounted_ahead(values, behind, 0.5, 3)
    np.testing.assert_allclose(total[:, 0], [1 + 1 + 1, 2 + 2, 4, 8 + 8, 16])
    assert known.tolist() == [True, True, True, False, False]
    total, known = discounted_ahead(values, behind, 0.5, 2)
    np.testing.assert_allclose(total[:3, 0], [2, 4, 4])
    assert known.tolist() == [True, True, True, True, False]


def small(**columns: list[object]) -> Episodes:
    """Rows of the toy with some columns said."""
    n = len(next(iter(columns.values())))
    rows = toy_episodes(n_matches=1).take(np.arange(n))
    said: dict[str, Any] = {k: np.asarray(v, getattr(rows, k).dtype) for k, v in columns.items()}
    return dataclasses.replace(rows, **said)


def test_following_knows_ends_gaps_and_cuts() -> None:
    rows = small(
        first=[True, False, False, True, False, False],
        terminated=[False, False, True, False, False, False],
        truncated=[False, False, False, False, False, True],
        step=[0, 1, 2, 0, 1, 3],
        actor=[0, 0, 0, 1, 1, 1],
        match=[0] * 6,
    )
    behind = following(rows)
    assert behind.tolist() == [1, 2, OVER, 4, UNKNOWN, UNKNOWN]
    assert begins(behind).tolist() == [True, False, False, True, False, True]


def test_a_pack_is_hurt_on_after_an_actor_died() -> None:
    """Actor 0 dies at step 0; actor 1 sees the match out to its end at step 2."""
    rows = small(
        step=[0, 0, 1, 2],
        actor=[0, 1, 1, 1],
        match=[7] * 4,
        first=[True, True, False, False],
        terminated=[True, False, False, True],
        truncated=[False] * 4,
        threat=[[1, 0, 0], [1, 0, 0], [2, 0, 0], [4, 0, 0]],
    )
    where, threat, behind = pack_steps(rows)
    assert where.tolist() == [0, 0, 1, 2]
    assert threat[:, 0].tolist() == [1, 2, 4]
    assert behind.tolist() == [1, 2, OVER]
    total, known = discounted_ahead(threat, behind, 1.0, 3)
    assert total[where, 0].tolist() == [7, 7, 6, 4]
    assert known.all()


def test_a_truncated_match_leaves_its_last_steps_unknown() -> None:
    rows = small(
        step=[0, 1], actor=[0, 0], match=[1, 1], first=[True, False],
        terminated=[False, False], truncated=[False, True],
    )  # fmt: skip
    _, threat, behind = pack_steps(rows)
    _, known = discounted_ahead(threat, behind, 0.9, 2)
    assert known.tolist() == [True, False]
