"""The traditional AI of degree 2 as a policy: from an observation, one head at a time.

It does what `games.arena.scripted` does with arrays of matches; a test holds the two together.
Which head is asked for is told by the mask: a decision's legal actions are those of its head alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Choice, Uniforms, choose
from games.arena import rules
from games.arena.scripted import (
    BLOCKS,
    ENGAGED,
    HEALS_BELOW,
    HEAVIES,
    MENDS_BELOW,
    OTHER,
    SKILL,
    TAUNTS,
    towards,
)
from schemas.practice import ARCHETYPES, Head

Seen = NDArray[np.float32]
Legal = NDArray[np.bool_]
Odds = NDArray[np.float64]

_ENEMY, _HURT = 20, 52
"""Places in an observation: the nearest enemy's dx, and hit points of the most hurt ally."""
N_ACTIONS: Final = len(rules.ACTION_NAMES)
HEADS: Final[tuple[Head, ...]] = ("combat", "movement", "skill", "aim")


def action_slice(head: Head) -> slice:
    """Return where a head's choices lie in the one list of actions."""
    first = rules.FIRST[head]
    return slice(first, first + (1 if head == "aim" else rules.N_CHOICES[head]))


class ScriptedRule:
    """See `agents.policies.choice.Rule`."""

    version = "scripted"

    def __init__(self, archetype: str) -> None:
        """Take the archetype that it plays."""
        self._kind = ARCHETYPES.index(archetype)
        self._reach = rules.KINDS["reach"][self._kind]

    def distribution(self, observations: Seen, legal: Legal) -> Odds:
        """See `Rule.distribution`."""
        odds = np.zeros(legal.shape)
        for head in HEADS:
            part = action_slice(head)
            rows = np.flatnonzero(legal[:, part.start])
            seen, mask = observations[rows], legal[rows, part]
            if head == "combat":
                found = self._combat(seen, mask)
            elif head == "movement":
                found = self._move(seen)
            elif head == "skill":
                found = self._skill(seen, mask)
            else:
                found = np.ones((len(rows), 1))
            odds[rows, part] = found
        return odds

    def _combat(self, seen: Seen, legal: Legal) -> Odds:
        odds = np.zeros(legal.shape)
        kind = self._kind
        odds[:, rules.BLOCK] = BLOCKS[kind]
        odds[:, rules.TAUNT] = TAUNTS[kind] * legal[:, rules.TAUNT]
        odds[:, rules.HEAVY] = HEAVIES[kind] * legal[:, rules.HEAVY]
        odds[:, rules.NEAREST] = 1.0 - odds.sum(axis=1)
        _surely(odds, ~legal[:, rules.NEAREST], rules.WAIT)
        _surely(odds, legal[:, rules.HEAL] & (seen[:, _HURT] < HEALS_BELOW[kind]), rules.HEAL)
        return odds

    def _move(self, seen: Seen) -> Odds:
        dx, dy = seen[:, _ENEMY] * rules.HALF, seen[:, _ENEMY + 1] * rules.HALF
        near = np.hypot(dx, dy) <= 0.9 * self._reach
        return _one_hot(np.where(near, 0, towards(dx, dy)), len(rules.MOVES))

    def _skill(self, seen: Seen, legal: Legal) -> Odds:
        first, second = int(SKILL[self._kind]), int(OTHER[self._kind])
        way = np.hypot(seen[:, _ENEMY], seen[:, _ENEMY + 1]) * rules.HALF
        engaged = (way <= ENGAGED) & (seen[:, 14] > 0)
        may = legal[:, first] & engaged
        if first == rules.MEND:
            may &= seen[:, _HURT] < MENDS_BELOW
        other = legal[:, second] & engaged
        return _one_hot(np.where(may, first, np.where(other, second, 0)), len(rules.SKILLS))


class ScriptedPolicy:
    """The rule without exploration; see `agents.policies.choice.Policy`."""

    version = "scripted"

    def __init__(self, archetype: str) -> None:
        """Take the archetype that it plays."""
        self._rule = ScriptedRule(archetype)

    def act(self, observations: Seen, legal: Legal, rng: Uniforms) -> Choice:
        """See `Policy.act`."""
        return choose(self._rule.distribution(observations, legal), legal, 0.0, rng)


def _one_hot(chosen: NDArray[np.int64], n: int) -> Odds:
    odds = np.zeros((len(chosen), n))
    odds[np.arange(len(chosen)), chosen] = 1.0
    return odds


def _surely(odds: Odds, where: Legal, action: int) -> None:
    odds[where] = 0.0
    odds[where, action] = 1.0
