"""What every game's connector gives: live matches, and whole matches for judging policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from agents.policies.choice import Policy
from schemas.events import ActorEvent
from schemas.game import Game

Result = Literal["won", "lost", "draw"]
_LETTER: Final[dict[Result, str]] = {"won": "W", "draw": "D", "lost": "L"}


class MatchEnd(msgspec.Struct, frozen=True):
    """A match that came to its end."""

    opponent_id: str
    policy_version: str
    """Of our last decision in it; it may have changed on the way."""
    result: Result
    steps: int


class Step(msgspec.Struct, frozen=True):
    """What one step of every world brought."""

    events: list[ActorEvent]
    """In order for each actor: its decision, its outcome, its episode's end."""
    n_decisions: int
    policy_version: str
    worlds: list[int]
    """The worlds in which the policy decided: all of them."""
    ended: list[MatchEnd]


class LiveMatches(Protocol):
    """Many matches at a time, all decided by one policy that can be changed between two steps."""

    policy: Policy
    """Decides from the next step on; change it at will."""
    earlier: list[Policy]
    """Opponents for matches against former champions."""

    @property
    def n_worlds(self) -> int:
        """How many matches run at a time."""
        ...

    def step(self, now_ms: int) -> Step:
        """Takes one step in every world; a match that is over makes room for the next first."""
        ...


class MatchResult(NamedTuple):
    """A match as the home side saw it."""

    seed: int
    side: str
    """The side or seat that home played."""
    result: Result
    steps: int
    survivors: int
    """What home had left at the end: fighters, or villages."""


class Tally(NamedTuple):
    """Matches counted from home's side."""

    n: int
    wins: int
    draws: int
    losses: int
    outcomes: str
    """W, D or L for each match in order."""


def tally(results: Sequence[MatchResult]) -> Tally:
    """Counts results."""
    outcomes = "".join(_LETTER[r.result] for r in results)
    return Tally(
        n=len(outcomes),
        wins=outcomes.count("W"),
        draws=outcomes.count("D"),
        losses=outcomes.count("L"),
        outcomes=outcomes,
    )


Share = Annotated[float, Meta(ge=0, le=1)]


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every connector's settings hold."""

    worlds: Annotated[int, Meta(ge=1, le=1024)] = 32
    """Matches that run at a time."""
    decisions_per_second: Annotated[float, Meta(gt=0)] = 2100.0
    """The game never decides more often, so that learning has the rest of the machine."""
    epsilon: Share = 0.05
    """Share of the learned policy's decisions drawn at random among the legal actions."""
    scripted_epsilon: Share = 0.1
    """The same for the scripted policy, which plays until there is a champion."""
    earlier_versions: Annotated[int, Meta(ge=0, le=20)] = 3
    """How many former champions stay as opponents."""


class Connector(Protocol):
    """A game that can be played here: live for Kafka, and in whole matches for judging."""

    archetype: str
    """Whose model decides."""

    def settings(self, game: Game) -> LiveSettings:
        """Returns the settings of a description that fits.

        Raises:
            SchemaError: it does not fit this game.
        """
        ...

    def live(self, game: Game, seed: int, incarnation: str) -> LiveMatches:
        """Returns live matches, decided by the scripted policy at first; raises as `settings`."""
        ...

    def scripted(self) -> Policy:
        """Returns the game's own AI."""
        ...

    def play(
        self,
        home: Policy,
        away: Policy,
        seeds: Sequence[int],
        n_worlds: int = 64,
        opening: int = 0,
    ) -> list[MatchResult]:
        """Plays every seed twice, from two sides; the result is a function of its arguments."""
        ...

    def sample(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Returns an observation f32[1, D] of the game and its mask bool[1, A]."""
        ...
