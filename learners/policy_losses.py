"""Losses and targets of policies, as pure functions; time leads, T, then any shape.

Sources: Schulman et al. 2016 (GAE), Schulman et al. 2017 (PPO), Espeholt et al. 2018 (V-trace),
Hilton et al. 2022 (a proximal policy that need not be the behaviour policy), Peng et al. 2019
(cloning weighted by advantage), Haarnoja et al. 2018 (SAC and its temperature).
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from learners.networks import mask_illegal

MAX_CLONE_WEIGHT = 20.0
"""exp(advantage / scale) is cut here, as Peng et al. 2019 do: one row does not outvote a batch."""


def gae(
    reward: torch.Tensor,
    value: torch.Tensor,
    next_value: torch.Tensor,
    terminated: torch.Tensor,
    truncated: torch.Tensor,
    discount: float,
    trace: float,
) -> torch.Tensor:
    """Return generalised advantages [T, ...], ``sum_k (discount trace)^k delta_(t+k)``.

    A terminated row bootstraps 0, a truncated one ``next_value``; the sum ends with either.

    Args:
        reward: [T, ...].
        value: V of each row's observation.
        next_value: V of the observation after each row, before any new episode.
        terminated: bool; nothing comes after.
        truncated: bool; the episode was cut here.
        discount: gamma.
        trace: lambda.
    """
    follows = discount * (~terminated).to(reward.dtype)
    delta = reward + follows * next_value - value
    return _discounted_sum(delta, trace * follows * (~truncated).to(reward.dtype))


def vtrace(
    log_ratio: torch.Tensor,
    reward: torch.Tensor,
    value: torch.Tensor,
    next_value: torch.Tensor,
    terminated: torch.Tensor,
    truncated: torch.Tensor,
    discount: float,
    trace: float,
    rho_max: float = 1.0,
    c_max: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return value targets and advantages [T, ...] of the target policy from another one's rows.

    ``v_t = V_t + rho_t delta_t + discount c_t (v_(t+1) - V_(t+1))`` with
    ``rho = min(rho_max, ratio)`` and ``c = trace min(c_max, ratio)`` (remark 2 of the paper); the
    advantage, ``delta_t + discount trace (v_(t+1) - V_(t+1))``, is to be weighted by rho_t in the
    policy's loss. With ratios of 1 it is `gae`, with ``trace`` 1 it is the paper's.

    Args:
        log_ratio: log target policy - log behaviour policy of the choices taken.
        reward: see `gae`; so are the others.
        value: ...
        next_value: ...
        terminated: ...
        truncated: ...
        discount: ...
        trace: ...
        rho_max: decides which policy's values are learned; 1 keeps variance low.
        c_max: decides how far a correction travels.
    """
    follows = discount * (~terminated).to(reward.dtype)
    delta = reward + follows * next_value - value
    ratio = log_ratio.exp()
    carried = trace * follows * (~truncated).to(reward.dtype)
    correction = _discounted_sum(ratio.clamp(max=rho_max) * delta, carried * ratio.clamp(max=c_max))
    later = torch.cat([correction[1:], torch.zeros_like(correction[:1])])
    return value + correction, delta + carried * later


def _discounted_sum(term: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return ``x_t = term_t + factor_t x_(t+1)``."""
    result = torch.empty_like(term)
    later = torch.zeros_like(term[0])
    for t in range(len(term) - 1, -1, -1):
        later = torch.addcmul(term[t], factor[t], later)
        result[t] = later
    return result


def masked_log_probs(logits: torch.Tensor, legal: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities [..., A]; illegal choices stand so low that exp gives 0."""
    return functional.log_softmax(mask_illegal(logits, legal), -1)


def entropy(log_probs: torch.Tensor) -> torch.Tensor:
    """Return the entropies [...] of log-probabilities [..., A]; what cannot happen adds 0."""
    return -(log_probs.exp() * log_probs).sum(-1)


def clipped_surrogate(
    log_prob: torch.Tensor, proximal: torch.Tensor, advantage: torch.Tensor, clip: float
) -> torch.Tensor:
    """Return PPO's loss of each row, ``-min(r A, clip(r, 1 - clip, 1 + clip) A)``.

    ``r = exp(log_prob - proximal)``; the proximal policy is the one the update began from.
    """
    ratio = (log_prob - proximal).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def clone_weights(advantage: torch.Tensor, scale: float) -> torch.Tensor:
    """Return ``exp(advantage / scale)``, at most `MAX_CLONE_WEIGHT`; all ones for scale 0."""
    if scale == 0:
        return torch.ones_like(advantage)
    return (advantage / scale).clamp(max=math.log(MAX_CLONE_WEIGHT)).exp()


def normalised(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return values [S, ...] at mean 0 and deviation 1 over the valid ones of each model."""
    weight = valid.to(values.dtype).flatten(1)
    n = weight.sum(1).clamp(min=1.0)
    flat = values.flatten(1)
    centred = flat - ((flat * weight).sum(1) / n)[:, None]
    deviation = ((centred.square() * weight).sum(1) / n).sqrt()
    return (centred / (deviation[:, None] + 1e-8)).reshape(values.shape)


def masked_mean(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return the means [S] of values [S, ...] over the valid ones; 0 where there are none."""
    weight = valid.to(values.dtype)
    return (values * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1.0)


def squashed_log_prob(
    mean: torch.Tensor, log_std: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return actions [..., K] in (-1, 1) and their log-densities [...] under tanh(Normal).

    ``u = mean + std noise``, ``a = tanh(u)``, ``log p(a) = log N(u) - sum log(1 - a^2)``; the last
    term as ``2 (log 2 - u - softplus(-2 u))``, which is exact where 1 - a^2 rounds to 0.
    """
    raw = mean + log_std.exp() * noise
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    slope = 2.0 * (math.log(2.0) - raw - functional.softplus(-2.0 * raw))
    return raw.tanh(), (normal - slope).sum(-1)


def soft_targets(
    reward: torch.Tensor,
    terminated: torch.Tensor,
    discount: float | torch.Tensor,
    next_values: torch.Tensor,
    next_log_prob: torch.Tensor,
    temperature: torch.Tensor,
) -> torch.Tensor:
    """Return ``r + discount (1 - terminated) (min_k Q_k(s', a') - temperature log p(a'))``.

    Args:
        reward: [S, B].
        terminated: bool [S, B]; a truncated row bootstraps.
        discount: gamma; a tensor [S, B] of its powers where rewards are sums over steps.
        next_values: Q of the target critics [K, S, B] at actions drawn by the policy.
        next_log_prob: of those actions [S, B].
        temperature: [S].
    """
    soft = next_values.min(0).values - temperature[:, None] * next_log_prob
    return reward + discount * (~terminated).to(reward.dtype) * soft


def temperature_loss(
    log_temperature: torch.Tensor, log_prob: torch.Tensor, target_entropy: float
) -> torch.Tensor:
    """Return ``-log_temperature mean(log_prob + target_entropy)`` of each model [S].

    Its gradient raises the temperature while the policy's entropy is below the target. Differs
    from equation 18 of the paper (temperature for its logarithm) as its authors' code does.
    """
    return -log_temperature * (log_prob.detach() + target_entropy).flatten(1).mean(1)
