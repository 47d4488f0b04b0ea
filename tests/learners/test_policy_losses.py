"""Hand-worked numbers of the policies' losses, and naive loops beside the fast ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from learners import policy_losses as losses

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _column(*values: float) -> torch.Tensor:
    return torch.tensor(values)


def test_gae_by_hand() -> None:
    """Rewards 1, 0, 2; values 1; discount 0.5, trace 0.5; then the end."""
    end = torch.tensor([False, False, True])
    advantage = losses.gae(
        _column(1, 0, 2), _column(1, 1, 1), _column(1, 1, 9), end, ~end & False, 0.5, 0.5
    )
    # deltas: 1 + 0.5 - 1 = 0.5; 0 + 0.5 - 1 = -0.5; 2 - 1 = 1
    # A2 = 1; A1 = -0.5 + 0.25 * 1 = -0.25; A0 = 0.5 + 0.25 * -0.25 = 0.4375
    torch.testing.assert_close(advantage, _column(0.4375, -0.25, 1.0))


def test_gae_bootstraps_a_cut_episode_and_stops_there() -> None:
    cut = torch.tensor([True, False])
    advantage = losses.gae(_column(1, 5), _column(2, 0), _column(4, 0), cut & False, cut, 0.5, 1.0)
    torch.testing.assert_close(advantage, _column(1 + 2 - 2, 5.0))


def _rows(seed: int, t: int = 9, b: int = 4) -> Rows:
    rng = torch.Generator().manual_seed(seed)
    terminated = torch.rand(t, b, generator=rng) < 0.15
    truncated = (torch.rand(t, b, generator=rng) < 0.15) & ~terminated
    numbers = torch.randn(3, t, b, generator=rng)
    return numbers[0], numbers[1], numbers[2], terminated, truncated


def _naive_vtrace(
    log_ratio: NDArray[np.float64],
    rows: tuple[NDArray[np.float64], ...],
    how: tuple[float, float, float, float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Equation 1 of the paper as it stands, a sum of products from every row on."""
    reward, value, following, terminated, truncated = rows
    discount, trace, rho_max, c_max = how
    ratio = np.exp(log_ratio)
    n, b = reward.shape
    target = value.copy()
    delta = reward + discount * (1 - terminated) * following - value
    for i in range(b):
        for s in range(n):
            carried = 1.0
            for t in range(s, n):
                target[s, i] += carried * min(rho_max, ratio[t, i]) * delta[t, i]
                if terminated[t, i] or truncated[t, i]:
                    break
                carried *= discount * trace * min(c_max, ratio[t, i])
    advantage = delta.copy()
    for t in range(n - 1):
        goes_on = (1 - terminated[t]) * (1 - truncated[t])
        advantage[t] += discount * trace * goes_on * (target[t + 1] - value[t + 1])
    return target, advantage


@pytest.mark.parametrize("seed", range(4))
def test_vtrace_is_the_papers_sum(seed: int) -> None:
    rows = _rows(seed)
    log_ratio = torch.randn(rows[0].shape, generator=torch.Generator().manual_seed(99 + seed))
    how = (0.9, 0.8, 1.2, 1.0)
    target, advantage = losses.vtrace(log_ratio, *rows, *how)
    naive = _naive_vtrace(log_ratio.double().numpy(), tuple(r.double().numpy() for r in rows), how)
    np.testing.assert_allclose(target, naive[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(advantage, naive[1], rtol=1e-4, atol=1e-5)


def test_vtrace_of_fresh_rows_is_gae() -> None:
    rows = _rows(7)
    target, advantage = losses.vtrace(torch.zeros_like(rows[0]), *rows, 0.9, 0.95)
    expected = losses.gae(*rows, 0.9, 0.95)
    torch.testing.assert_close(advantage, expected)
    torch.testing.assert_close(target, rows[1] + expected)


def test_vtrace_of_late_rows_by_hand() -> None:
    """As in `test_gae_by_hand`, of rows that the policy would choose 2, 1/2 and 1/4 times as often.

    rho = 1, 1/2, 1/4; carried on: 0.5 * 0.5 * (1, 1/2); deltas 0.5, -0.5, 1.
    """
    end = torch.tensor([False, False, True])
    target, advantage = losses.vtrace(
        _column(2, 0.5, 0.25).log(), _column(1, 0, 2), _column(1, 1, 1), _column(1, 1, 9),
        end, ~end & False, 0.5, 0.5,
    )  # fmt: skip
    # v2 - V2 = 1/4 * 1; v1 - V1 = 1/2 * -0.5 + 0.125 * 0.25 = -0.21875
    # v0 - V0 = 0.5 + 0.25 * -0.21875 = 0.4453125
    torch.testing.assert_close(target, _column(1.4453125, 0.78125, 1.25))
    # delta + 0.25 (v - V) of the row after; the policy's loss weighs them by rho
    torch.testing.assert_close(advantage, _column(0.4453125, -0.5 + 0.0625, 1.0))


def test_vtrace_bounds_decide_how_much_of_a_rare_choice_counts() -> None:
    """A row that the policy chooses 4 times as often counts as often as ``rho_max`` lets it."""
    end = torch.tensor([True])
    for rho_max, expected in ((1.0, 2.0), (3.0, 4.0), (9.0, 5.0)):
        target, _ = losses.vtrace(
            _column(math.log(4)), _column(2), _column(1), _column(0), end, ~end, 0.5, 1.0, rho_max
        )
        torch.testing.assert_close(target, _column(expected))


def test_vtrace_ignores_what_the_policy_would_not_do() -> None:
    """A row whose choice the target policy never takes leaves its value where it was."""
    no = torch.zeros(2, dtype=torch.bool)
    target, _ = losses.vtrace(
        _column(-80.0, 0.0), _column(1, 1), _column(3, 3), _column(3, 3), no, no, 0.9, 1.0
    )
    torch.testing.assert_close(target[0], torch.tensor(3.0))


def test_clipped_surrogate_by_hand() -> None:
    """Ratio 1.5: a gain is cut at 1.2, a loss is not."""
    log_ratio = math.log(1.5)
    loss = losses.clipped_surrogate(
        _column(log_ratio, log_ratio, 0.0), torch.zeros(3), _column(2, -2, 1), 0.2
    )
    torch.testing.assert_close(loss, _column(-2.4, 3.0, -1.0))


def test_illegal_choices_have_no_chance_and_no_entropy() -> None:
    legal = torch.tensor([True, True, False])
    log_probs = losses.masked_log_probs(_column(1.0, 1.0, 9.0), legal)
    torch.testing.assert_close(log_probs.exp(), _column(0.5, 0.5, 0.0))
    torch.testing.assert_close(losses.entropy(log_probs), torch.tensor(math.log(2)))


def test_clone_weights_by_hand() -> None:
    weights = losses.clone_weights(_column(0.0, 1.0, 100.0), 0.5)
    torch.testing.assert_close(weights, _column(1.0, math.e**2, losses.MAX_CLONE_WEIGHT))
    assert (losses.clone_weights(_column(3.0, -3.0), 0) == 1).all()


def test_normalised_counts_valid_rows_only() -> None:
    values = torch.tensor([[1.0, 3.0, 1e6], [5.0, 5.0, 5.0]])
    valid = torch.tensor([[True, True, False], [True, True, True]])
    result = losses.normalised(values, valid)
    torch.testing.assert_close(result[0, :2], _column(-1.0, 1.0))
    torch.testing.assert_close(result[1], torch.zeros(3))
    torch.testing.assert_close(losses.masked_mean(values, valid), _column(2.0, 5.0))
    assert losses.masked_mean(values, valid & False).tolist() == [0.0, 0.0]


def test_squashed_log_prob_is_torchs() -> None:
    rng = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, 5, 2, generator=rng).double()
    aim, log_prob = losses.squashed_log_prob(mean, log_std, noise)
    normal = torch.distributions.Normal(mean, log_std.exp())
    tanh = torch.distributions.TanhTransform()
    squashed = torch.distributions.TransformedDistribution(normal, [tanh])
    expected = squashed.log_prob(aim)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(log_prob, expected.sum(-1))
    far = losses.squashed_log_prob(_column(30.0), _column(0.0), _column(0.0))
    assert torch.isfinite(far[1])
    # log N(0) - log(4 exp(-2 u)) for large u
    torch.testing.assert_close(far[1], torch.tensor(-0.9189385 + 60.0 - 2 * math.log(2)))


def test_soft_targets_by_hand() -> None:
    targets = losses.soft_targets(
        torch.tensor([[1.0, 1.0]]), torch.tensor([[False, True]]), 0.5,
        torch.tensor([[[4.0, 4.0]], [[2.0, 9.0]]]), torch.tensor([[-1.0, 0.0]]),
        torch.tensor([0.2]),
    )  # fmt: skip
    # 1 + 0.5 (min(4, 2) + 0.2) and nothing behind the end
    torch.testing.assert_close(targets, torch.tensor([[2.1, 1.0]]))


def test_temperature_rises_while_the_policy_is_too_sure() -> None:
    log = torch.zeros(2, requires_grad=True)
    log_prob = torch.tensor([[3.0, 3.0], [1.0, 1.0]])
    loss = losses.temperature_loss(log, log_prob, -2.0)
    (gradient,) = torch.autograd.grad(loss.sum(), log)
    # entropies -3 and -1 against a target of -2
    torch.testing.assert_close(gradient, _column(-1.0, 1.0))
