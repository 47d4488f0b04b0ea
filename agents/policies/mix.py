"""Policies made of a rule and uniform exploration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Choice, Rule, Uniforms, checked_epsilon, choose


class EpsilonMix:
    """Follows a rule, and with probability epsilon takes any legal action instead."""

    def __init__(self, rule: Rule, epsilon: float) -> None:
        """Keeps the rule's version; raises ValueError for an epsilon outside [0, 1]."""
        self.version = rule.version
        self.epsilon = checked_epsilon(epsilon)
        self._rule = rule

    def act(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_], rng: Uniforms
    ) -> Choice:
        """See `Policy.act`."""
        return choose(self._rule.distribution(observations, legal), legal, self.epsilon, rng)


class RandomPolicy:
    """Every legal action alike."""

    version = "random"

    def act(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_], rng: Uniforms
    ) -> Choice:
        """See `Policy.act`."""
        base = legal / np.maximum(legal.sum(axis=1), 1)[:, None]
        return choose(base, legal, 0.0, rng)
