"""Offline losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from learners.offline import (
    advantage_weights,
    conservative_losses,
    expectile_losses,
    imitation_losses,
    log_policy,
    policy_values,
)

LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)
VALUES = torch.tensor([[[0.0, LN3, 50.0], [1.0, 1.0, 1.0]]])
"""[S, B, A] of one model: two rows, the first one's last action illegal."""
LEGAL = torch.tensor([[[True, True, False], [True, True, True]]])
ACTION = torch.tensor([[[0], [2]]])


def test_conservative_loss_is_the_cross_entropy_of_the_logged_action() -> None:
    """exp sums are 1 + 3 = 4 (50 is illegal) and 3e: ln 4 - 0 and ln 3 + 1 - 1."""
    losses = conservative_losses(VALUES, ACTION, LEGAL)
    torch.testing.assert_close(losses, torch.tensor([[LN4, LN3]]))


def test_expectile_loss_weighs_what_lies_above() -> None:
    losses = expectile_losses(torch.tensor([2.0, -2.0, 0.0]), 0.9)
    torch.testing.assert_close(losses, torch.tensor([3.6, 0.4, 0.0]))


def test_expectile_of_two_values_is_where_the_pulls_are_equal() -> None:
    """Of 0 and 1 the 0.75-expectile is 0.75: 0.75 * 0.25 = 0.25 * 0.75."""
    v = torch.tensor(0.75, requires_grad=True)
    expectile_losses(torch.tensor([0.0, 1.0]) - v, 0.75).sum().backward()  # type: ignore[no-untyped-call]
    assert v.grad is not None
    assert v.grad.item() == pytest.approx(0.0, abs=1e-6)


def test_advantage_weights_grow_with_the_advantage_up_to_a_cap() -> None:
    weights = advantage_weights(torch.tensor([0.0, 0.5 * LN2, -0.5 * LN4, 9.0]), 0.5, 20.0)
    torch.testing.assert_close(weights, torch.tensor([1.0, 2.0, 0.25, 20.0]))


def test_log_policy_leaves_illegal_actions_nothing() -> None:
    chances = log_policy(VALUES, LEGAL).exp()
    torch.testing.assert_close(chances, torch.tensor([[[0.25, 0.75, 0.0], [1 / 3] * 3]]))


def test_imitation_loss_is_weighed_log_likelihood() -> None:
    losses = imitation_losses(VALUES, ACTION, LEGAL, torch.tensor([[2.0, 0.5]]))
    torch.testing.assert_close(losses, torch.tensor([[2 * LN4, 0.5 * LN3]]))


def test_policy_value_is_the_mean_over_legal_actions() -> None:
    """1/4 * 8 + 3/4 * 4 = 5; the illegal action's million counts nothing."""
    values = torch.tensor([[[8.0, 4.0, 1e6], [3.0, 6.0, 0.0]]])
    torch.testing.assert_close(policy_values(VALUES, values, LEGAL), torch.tensor([[5.0, 3.0]]))
