"""What an actor tells of a step: four decisions, one a head, and what came of them.

A head's decisions are an episode of their own, so that what follows a decision is the same head's
next one, with its own mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from games.arena.blows import Facts
from games.arena.rewards import TEAM
from games.arena.rule import HEADS, action_slice
from games.arena.settings import GAME
from games.match import Result
from schemas.events import Decision, Detail, EpisodeEnd, Outcome
from schemas.practice import Head

Details = dict[str, Detail]

_TOLD: Final[dict[str, tuple[str, ...]]] = {
    "aggressive": ("damage_dealt", "kills", "damage_taken", "deaths"),
    "defensive": ("survival_time", "damage_blocked", "allies_protected", "survived"),
    "support": ("healing", "effective_healing", "buffs", "ally_deaths"),
    "mage": ("spell_damage", "spell_kills", "spell_kill_bonus", "mana_efficiency", "distance",
             "kept_distance"),
    "tank": ("aggro", "damage_absorbed", "ally_deaths", "survived"),
    "ranged": ("sustained_damage", "kiting", "damage_taken", "distance", "kept_distance"),
}  # fmt: skip
"""What each archetype's outcomes tell beside what all tell: the facts of its reward."""
_TEAMS: Final = ("support", "tank")
_ALL: Final = ("damage_dealt", "damage_taken", "kills", "deaths")


class Seat(NamedTuple):
    """A living actor of ours, at a step."""

    world: str
    match: int
    """How many matches its world had before this one."""
    slot: int
    step: int
    archetype: str

    @property
    def actor(self) -> str:
        """Its id."""
        return f"{self.world}/{self.slot}"

    def episode(self, head: Head) -> str:
        """Return the episode of a head."""
        return f"{self.world}-m{self.match}-{head}"

    def decision_id(self, head: Head) -> str:
        """Return the id of its decision of a head."""
        return f"{self.world}-m{self.match}-{self.step}-{self.slot}-{head}"


class Chosen(NamedTuple):
    """What a head decided for an actor."""

    action: int
    """In the one list of actions."""
    propensity: float
    probabilities: NDArray[np.float32]
    """Of the head's own choices."""
    explored: bool
    version: str
    aim: NDArray[np.float32] | None = None
    details: Details | None = None


def full_mask(head: Head, legal: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return masks bool[..., 28] of the one list of actions, from those of a head."""
    mask = np.zeros((*legal.shape[:-1], action_slice("aim").stop), np.bool_)
    mask[..., action_slice(head)] = legal[..., :1] if head == "aim" else legal
    return mask


def decided(
    seat: Seat,
    head: Head,
    chosen: Chosen,
    observation: NDArray[np.float32],
    legal: NDArray[np.bool_],
    now_ms: int,
) -> Decision:
    """Return the decision of a head, before the step; `legal` is a full mask."""
    odds = np.zeros(len(legal), np.float32)
    odds[action_slice(head)] = chosen.probabilities
    return Decision(
        decision_id=seat.decision_id(head),
        game=GAME,
        world=seat.world,
        episode=seat.episode(head),
        actor_id=seat.actor,
        archetype=seat.archetype,
        domain=head,
        event_time_ms=now_ms,
        step=seat.step,
        observation=observation.tobytes(),
        legal=legal.tobytes(),
        action=chosen.action,
        propensity=chosen.propensity,
        probabilities=odds.tobytes(),
        continuous=None if chosen.aim is None else chosen.aim.tobytes(),
        policy_version=chosen.version,
        explored=chosen.explored,
        opponent_id="scripted",
        action_type=head,
        details=chosen.details,
    )


def told_facts(archetype: str, facts: Facts) -> dict[str, NDArray[np.float64]]:
    """Return the facts that an archetype's outcomes carry, [5, W] each, of our side."""
    found = {
        name: facts[name][0].astype(np.float64)
        for name in dict.fromkeys((*_TOLD[archetype], *_ALL))
    }
    if archetype in _TEAMS:
        for name in _TOLD[archetype]:
            mean = np.broadcast_to(facts[name][0].mean(axis=0), facts[name][0].shape)
            found[TEAM + name] = mean.astype(np.float64)
    return found


def outcomes(
    seat: Seat,
    facts: dict[str, float],
    ended: tuple[bool, bool],
    after: NDArray[np.float32],
    details: Details,
    now_ms: int,
) -> Iterator[Outcome]:
    """Yield what came of each head's decision: the same, for they were one step.

    `ended` is (terminated, truncated), `after` the observation after the step;
    the details are told once, with what came of the combat action.
    """
    terminated, truncated = ended
    for head in HEADS:
        yield Outcome(
            decision_id=seat.decision_id(head),
            game=GAME,
            actor_id=seat.actor,
            event_time_ms=now_ms,
            facts=facts,
            terminated=terminated,
            truncated=truncated,
            next_observation=after.tobytes() if truncated else None,
            details=details if head == "combat" else None,
        )


def ends(
    seat: Seat, result: Result, stands: bool, decided: bool, now_ms: int
) -> Iterator[EpisodeEnd]:
    """Yield the end of a match for each head of an actor."""
    terminated = decided or not stands
    for head in HEADS:
        yield EpisodeEnd(
            game=GAME,
            world=seat.world,
            episode=seat.episode(head),
            actor_id=seat.actor,
            event_time_ms=now_ms,
            terminated=terminated,
            truncated=not terminated,
            result=result,
            facts={"steps": float(seat.step + 1), "survived": float(stands)},
        )
