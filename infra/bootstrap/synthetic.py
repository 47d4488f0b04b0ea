"""Rollouts that are made up from nothing but the description: for a game that has no history yet.

Each archetype has habits (which actions it likes) and each action of it an effect on each fact that
the reward reads, stronger or weaker by what is observed. So there is something to learn, and it
is nothing of the game: such data try the pipes, warm the normaliser, and are soon outweighed.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.rewards.formulas import FORMULAS
from infra.bootstrap.source import Asked
from schemas.events import ActorEvent, Decision, Outcome, Snapshot
from schemas.game import Domain, Game
from schemas.rewards import Reward

EPISODE_STEPS = 20
ACTORS = 16
"""Actors of each archetype."""
VERSION = "synthetic"
_EXPLORE = 0.2
"""Share of the behaviour that is uniform, so that every action has some probability."""


def facts_of(reward: Reward) -> list[str]:
    """The facts that a reward reads; of a function of one's own nobody knows which."""
    if reward.weights is not None:
        return list(reward.weights)
    if reward.formula is not None and reward.formula in FORMULAS:
        return list(FORMULAS[reward.formula].facts)
    return []


class Synthetic:
    """Episodes of made-up actors, one step of all of them at a time."""

    def __init__(self, game: Game, asked: Asked) -> None:
        self._game = game
        self._archetypes = [_Archetype(game, name, asked) for name in asked.archetypes]

    def step(self, now_ms: int) -> Sequence[ActorEvent]:
        """The next step of every actor whose archetype has not enough yet."""
        return [event for one in self._archetypes for event in one.step(now_ms)]


class _Archetype:
    def __init__(self, game: Game, name: str, asked: Asked) -> None:
        digest = blake2b(f"{game.name}/{name}".encode(), digest_size=8).digest()
        self._draw = np.random.default_rng([asked.seed, int.from_bytes(digest, "little")])
        self._game, self._name, self._asked = game, name, asked
        n_actions, size = game.actions.n, game.observation.size
        logits = self._draw.normal(size=n_actions)
        shares = np.exp(logits) / np.exp(logits).sum()
        self._probabilities = (1 - _EXPLORE) * shares + _EXPLORE / n_actions  # [A]
        self._view = self._draw.normal(size=size) / np.sqrt(size)  # [D]
        self._domains = list(game.domains)
        self._effects: dict[str, NDArray[np.float64]] = {}
        for domain in game.domains:
            for fact in facts_of(game.rewards[game.reward_of(domain, name)]):
                self._effects.setdefault(fact, self._draw.normal(size=(2, n_actions)))
        self._standing = np.full(ACTORS, 50.0)
        self._n = 0

    def step(self, now_ms: int) -> list[ActorEvent]:
        found: list[ActorEvent] = []
        for actor in range(ACTORS):
            if self._n >= self._asked.samples:
                return found
            found += self._decide(actor, self._n // ACTORS, now_ms)
            self._n += 1
        return found

    def _decide(self, actor: int, step: int, now_ms: int) -> list[ActorEvent]:
        game = self._game
        actor_id = f"{VERSION}-{self._asked.incarnation}-{self._name}/{actor}"
        episode = f"{actor_id}-e{step // EPISODE_STEPS}"
        domain_name = self._domains[(step + actor) % len(self._domains)]
        domain = game.domains[domain_name]
        seen = self._draw.normal(size=game.observation.size).astype("<f4")  # [D]
        action = int(self._draw.choice(game.actions.n, p=self._probabilities))
        facts = self._facts(domain_name, action, float(np.tanh(self._view @ seen)))
        last = step % EPISODE_STEPS == EPISODE_STEPS - 1 or self._n + ACTORS >= self._asked.samples
        standing = {domain.standing: float(self._standing[actor])} if domain.standing else None
        decision = Decision(
            decision_id=f"{episode}-{step}",
            game=game.name,
            world=f"{VERSION}-{self._asked.incarnation}",
            episode=episode,
            actor_id=actor_id,
            archetype=self._name,
            domain=domain_name,
            event_time_ms=now_ms,
            step=step % EPISODE_STEPS,
            observation=seen.tobytes(),
            action=action,
            propensity=float(self._probabilities[action]),
            probabilities=self._probabilities.astype("<f4").tobytes(),
            policy_version=VERSION,
            facts=standing,
        )
        outcome = Outcome(
            decision_id=decision.decision_id,
            game=game.name,
            actor_id=actor_id,
            event_time_ms=now_ms,
            facts=facts,
            terminated=last,
        )
        return [decision, outcome, *self._moved(actor, actor_id, domain, facts, now_ms)]

    def _facts(self, domain: str, action: int, context: float) -> dict[str, float]:
        """How often each fact happens: a Poisson draw whose mean the action and the view set."""
        found = {}
        for name in facts_of(self._game.rewards[self._game.reward_of(domain, self._name)]):
            plain, by_view = self._effects[name][:, action]
            mean = float(np.exp(np.clip(plain + by_view * context, -3, 1.5)))
            found[name] = float(self._draw.poisson(mean))
        return found

    def _moved(
        self, actor: int, actor_id: str, domain: Domain, facts: Mapping[str, float], now_ms: int
    ) -> list[ActorEvent]:
        if not domain.standing:
            return []
        drift = 0.1 * domain.standing_unit * (sum(facts.values()) / max(len(facts), 1) - 1)
        self._standing[actor] += drift + self._draw.normal(scale=0.2 * domain.standing_unit)
        said: dict[str, Any] = {domain.standing: float(self._standing[actor])}
        snapshot = Snapshot(
            game=self._game.name, actor_id=actor_id, event_time_ms=now_ms, facts=said
        )
        return [snapshot]
