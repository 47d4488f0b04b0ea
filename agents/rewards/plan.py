"""What the fold asks of a game's description at each event, looked up once when it is made."""

from __future__ import annotations

import msgspec

from agents.rewards.rules import Rule, compile_rewards, has_custom
from schemas.events import Decision, Outcome
from schemas.game import Domain, Game


class DomainPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A domain's times, all counted from a decision, and its rewards."""

    domain: Domain
    horizon_ms: int
    cut_off_ms: int
    """Until then what comes counts for the decision."""
    opens_ms: int
    """Then it is looked at first."""
    closes_ms: int
    """Until then something may still revise what it was settled with."""
    revises: bool
    notes_decided: bool
    """Whether a change of standing, or a blow, is laid to one of several decisions."""
    rewards: dict[str, tuple[str, Rule]]
    """Name and rule of the reward by archetype."""
    is_custom: bool
    """Whether a user's function is among them: it may fail on an outcome's facts."""


class GamePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A game's domains, the facts that are kept, and the sizes that events must have."""

    domains: dict[str, DomainPlan]
    standings: tuple[str, ...]
    retaliations: tuple[str, ...]
    keeps_history: bool
    """Whether accounts hold more than decisions: standings, and what their change is laid to."""
    n_actions: int
    archetypes: frozenset[str]
    vector_bytes: int
    probabilities_bytes: int
    continuous_bytes: int

    def takes(self, event: Decision) -> bool:
        """Whether a decision is as described; if not, `check_against_game` says what is wrong."""
        legal, probabilities, continuous = event.legal, event.probabilities, event.continuous
        return (
            event.domain in self.domains
            and event.archetype in self.archetypes
            and event.action < self.n_actions
            and len(event.observation) == self.vector_bytes
            and (probabilities is None or len(probabilities) == self.probabilities_bytes)
            and (continuous is None or len(continuous) == self.continuous_bytes)
            and (legal is None or (len(legal) == self.n_actions and bool(legal[event.action])))
        )

    def takes_outcome(self, event: Outcome) -> bool:
        """Whether an outcome is as described."""
        seen, legal = event.next_observation, event.next_legal
        return (seen is None or len(seen) == self.vector_bytes) and (
            legal is None or len(legal) == self.n_actions
        )


def plan_game(game: Game) -> GamePlan:
    """Return the plan of a game.

    Raises:
        SchemaError: a reward names a formula or function that is not there.
    """
    rules = compile_rewards(game)
    named = {
        name: {
            a: (game.reward_of(name, a), rules[game.reward_of(name, a)]) for a in game.archetypes
        }
        for name in game.domains
    }
    domains = game.domains
    plans = {name: _plan_domain(domain, named[name]) for name, domain in domains.items()}
    standings = tuple(sorted({d.standing for d in domains.values() if d.standing}))
    retaliations = tuple(sorted({d.retaliation for d in domains.values() if d.retaliation}))
    return GamePlan(
        domains=plans,
        standings=standings,
        retaliations=retaliations,
        keeps_history=bool(standings or retaliations)
        or any(p.notes_decided for p in plans.values()),
        n_actions=game.actions.n,
        archetypes=frozenset(game.archetypes),
        vector_bytes=4 * game.observation.size,
        probabilities_bytes=4 * game.actions.n,
        continuous_bytes=4 * game.actions.n_continuous,
    )


def _plan_domain(domain: Domain, rewards: dict[str, tuple[str, Rule]]) -> DomainPlan:
    cut_off_ms = max(domain.horizon_ms, domain.outcome_timeout_ms)
    return DomainPlan(
        domain=domain,
        horizon_ms=domain.horizon_ms,
        cut_off_ms=cut_off_ms,
        opens_ms=domain.horizon_ms or domain.outcome_timeout_ms,
        closes_ms=cut_off_ms + domain.revise_within_ms,
        revises=domain.revise_within_ms > 0,
        notes_decided=domain.credit == "discounted" or domain.retaliation is not None,
        rewards=rewards,
        is_custom=has_custom({name: rule for name, rule in rewards.values()}),
    )
