"""Losses for logged data: discrete CQL, IQL and AWAC; pure functions over actions in the last axis.

A plain Q target asks for the best of all actions, and in a log the best-looking action is one that
was hardly tried. CQL pushes such values down, IQL never asks for them, AWAC asks its own policy,
which is held near the log's.
"""

from __future__ import annotations

import torch

from learners.networks import mask_illegal


def conservative_losses(
    values: torch.Tensor, action: torch.Tensor, legal: torch.Tensor
) -> torch.Tensor:
    """Return ``log sum_a exp Q(s, a) - Q(s, a_log)`` [..., B] over legal actions.

    Source: Kumar et al. 2020, equation 4 with the entropy regulariser, CQL(H). With Q read as
    logits it is the cross entropy of the log's action.

    Args:
        values: Q [..., B, A].
        action: the log's actions [..., B, 1].
        legal: bool [..., B, A].
    """
    taken = values.gather(-1, action)[..., 0]
    return torch.logsumexp(mask_illegal(values, legal), -1) - taken


def expectile_losses(difference: torch.Tensor, expectile: float) -> torch.Tensor:
    """Return ``|tau - 1(u < 0)| u^2`` for differences ``u = Q(s, a) - V(s)``.

    Source: Kostrikov et al. 2022, equations 4 and 5. At 0.5 V is the mean over the log's actions;
    towards 1 it nears the best of them, without an action that the log does not hold.
    """
    weight = torch.where(difference < 0, 1.0 - expectile, expectile)
    return weight * difference.square()


def advantage_weights(advantage: torch.Tensor, temperature: float, largest: float) -> torch.Tensor:
    """Return ``min(exp(A / temperature), largest)``.

    Source: Nair et al. 2020, equation 13 (lambda is the temperature), and Kostrikov et al. 2022,
    equation 7 (beta is its inverse); both cap the weight, as otherwise one row may take over.
    """
    return torch.exp(advantage / temperature).clamp(max=largest)


def log_policy(scores: torch.Tensor, legal: torch.Tensor) -> torch.Tensor:
    """Return ``log pi(a | s)`` [..., B, A] of scores (logits); hugely negative where illegal."""
    return torch.log_softmax(mask_illegal(scores, legal), -1)


def imitation_losses(
    scores: torch.Tensor, action: torch.Tensor, legal: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Return ``-w log pi(a_log | s)`` [..., B]; with w = 1 it is behaviour cloning."""
    return -weight * log_policy(scores, legal).gather(-1, action)[..., 0]


def policy_values(scores: torch.Tensor, values: torch.Tensor, legal: torch.Tensor) -> torch.Tensor:
    """Return ``sum_a pi(a | s) Q(s, a)`` [..., B]: exact, where AWAC's paper draws one action."""
    chances = log_policy(scores, legal).exp()
    return (chances * torch.where(legal, values, 0.0)).sum(-1)
