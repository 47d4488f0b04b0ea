"""The scripted chief: strikes back, takes what is weakly held, else builds and trades."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Choice, Uniforms, choose, one_hot
from games.tribes import rules
from games.tribes.view import column

_GRUDGE: Final = 0.2
"""About eight turns since the attack."""
_WEAK: Final = 0.25
"""A rival whose army is so much smaller, as a logarithm over 4."""
_READY: Final = 0.9
"""Own army from which it thinks of marching: e^3.6 - 1, about 36 warriors."""


class ScriptedRule:
    """What the game's own AI does; it draws nothing.

    In this order, where it is legal: a pact with whom it trusts, settle, strike back at who has
    attacked it lately, march on a rival that is much weaker, recruit while its army is small,
    build, trade with whom it trusts most, wait.
    """

    version = "scripted"

    def distribution(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """See `Rule.distribution`."""
        actions = np.full(len(observations), rules.WAIT)
        army = observations[:, column("army")]
        ready = army > _READY
        prefers = [
            *self._against(observations, "trusts", rules.TRADE, -0.2, most=True),
            (rules.BUILD, np.ones(len(observations), np.bool_)),
            (rules.RECRUIT, ~ready),
            *(
                (rules.ATTACK + k, ready & (army - self._rival(observations, "army", k) > _WEAK))
                for k in range(rules.RIVALS)
            ),
            *(
                (rules.ATTACK + k, self._rival(observations, "attacked", k) > _GRUDGE)
                for k in range(rules.RIVALS)
            ),
            (rules.SETTLE, np.ones(len(observations), np.bool_)),
            *self._against(observations, "trusted", rules.PACT, 0.12, most=True),
        ]
        for action, wanted in prefers:  # the last that is wanted and legal wins
            actions = np.where(wanted & legal[:, action], action, actions)
        return one_hot(actions, rules.N_ACTIONS)

    def _against(
        self, seen: NDArray[np.float32], name: str, first: int, least: float, *, most: bool
    ) -> list[tuple[int, NDArray[np.bool_]]]:
        values = np.stack([self._rival(seen, name, k) for k in range(rules.RIVALS)], axis=1)
        best = values.argmax(axis=1) if most else values.argmin(axis=1)
        return [(first + k, (best == k) & (values[:, k] > least)) for k in range(rules.RIVALS)]

    def _rival(self, seen: NDArray[np.float32], name: str, k: int) -> NDArray[np.float32]:
        return seen[:, column(name, k)]


class ScriptedPolicy:
    """The scripted chief as it is, without exploration."""

    version = ScriptedRule.version

    def __init__(self) -> None:
        self._rule = ScriptedRule()

    def act(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_], rng: Uniforms
    ) -> Choice:
        """See `Policy.act`."""
        return choose(self._rule.distribution(observations, legal), legal, 0.0, rng)
