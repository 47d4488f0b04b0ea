"""What models of an archetype practise in, and the rows they learn from; worlds implement it.

S archetypes play side by side, each in its own matches: row [s, b] is actor b of archetype s.
A world is asked for one *head* at a time (combat action, movement, skill, aim): that head is the
learner's, all others are played by the archetype's traditional AI.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

Head = Literal["combat", "movement", "skill", "aim"]
"""10 combat actions, 9 moves (stand, eight directions), the skills, or two continuous numbers."""

ARCHETYPES = ("aggressive", "defensive", "support", "mage", "tank", "ranged")
"""The order of S wherever all six are trained as one stack."""


class Layout(Protocol):
    """The fixed sizes of a world."""

    @property
    def n_features(self) -> int:
        """D: 64 in the arena."""

    @property
    def pack(self) -> int:
        """Actors of a pack: rows b of one match lie side by side, ``pack`` of them."""

    @property
    def n_enemies(self) -> int:
        """E."""

    @property
    def n_enemy_features(self) -> int:
        """F."""

    @property
    def n_actions(self) -> Mapping[Head, int]:
        """Choices of a head; of "aim" the continuous numbers, each in [-1, 1]."""

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of an actor's map."""

    @property
    def skills(self) -> Floats:
        """[K, E]: what is known of every skill (cost, range, power, kind, ...), one for all."""


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What S x B actors see before a step."""

    observation: Floats
    """[S, B, D]."""
    legal: Bools
    """[S, B, A] of the head asked for; all true for "aim"."""
    enemies: Floats
    """[S, B, E, F] facts of each enemy in a fixed order; all zeros for one that is dead."""
    alive: Bools
    """[S, B]: rows of the dead are to be ignored; what is chosen for them has no effect."""
    first: Bools
    """[S, B]: true at the first step of a match: recurrent states begin anew here."""
    maps: Callable[[], NDArray[np.uint8]]
    """Draws the maps [S, B, C, H, W] when they are wanted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a step brought; where a match ended, the next `View` is of a new one."""

    reward: Floats
    """[S, B] by the archetype's reward of the game, team mixed in, in [-1, 1]."""
    terminated: Bools
    """[S, B]: this actor died or its match was decided: nothing comes after."""
    truncated: Bools
    """[S, B]: its match reached the limit of steps."""
    last_observation: Floats
    """[S, B, D] after the step and before any new match: what a truncated row bootstraps from."""
    threat: Floats
    """[S, B, E]: damage that each enemy did to this actor's pack in the step, as a share of one
    actor's full hit points."""
    choice: Ints
    """[S, B]: what the traditional AI would have chosen here for a head of choices, else 0."""
    aim: Floats
    """[S, B, 2]: the same for "aim"."""
    matches: Sequence[tuple[int, float]]
    """Matches that ended: archetype s, and 1.0 won, 0.5 drawn or 0.0 lost from the home side; in
    order of archetype, then of the match among its own."""
    gain: Floats | None = None
    """[S, B]: what the actor itself did in the step for its pack to be ahead by what decides a
    match, in shares of a pack's life. None: the world does not tell."""


class Practice(Protocol):
    """A world to practise in; equal seeds and choices give equal results."""

    @property
    def layout(self) -> Layout:
        """The sizes of what it shows and takes."""

    def begin(
        self, head: Head, n_matches: int, seed: int, difficulty: int | Sequence[int] = 2
    ) -> View:
        """Start ``n_matches`` matches for each archetype; B is ``n_matches * pack``.

        ``difficulty`` 0 to 4, one for all or one an archetype [S], is how well the opponents'
        traditional AI plays; 2 plays as well as the home side's.
        """
        ...

    def step(self, choice: NDArray[Any] | None) -> tuple[View, Result]:
        """Take a step with choices [S, B] (or aims [S, B, 2]); None: the traditional AI's own."""
        ...

    def play(
        self,
        head: Head,
        policy: Callable[[View], NDArray[Any]] | None,
        n_matches: int,
        seed: int,
        difficulty: int | Sequence[int] = 2,
    ) -> Floats:
        """Play ``n_matches`` whole matches an archetype; returns their results [S, n_matches].

        Seeds are paired: every match's start is played from both sides, and ``policy`` None (the
        traditional AI itself) meets the same starts.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Episodes:
    """Unbroken steps of one archetype's actors: what a bootstrap or windows of the log hold.

    N rows in order of (actor's episode, step); every field leads with N.
    """

    observation: Floats
    """[N, D]."""
    next_observation: Floats
    """[N, D]: zeros where the row terminated."""
    action: dict[Head, Ints]
    """[N] the index chosen for each head of choices."""
    aim: Floats
    """[N, 2]."""
    legal: dict[Head, Bools]
    """[N, A] for each head of choices."""
    propensity: dict[Head, Floats]
    """[N] probability (density for "aim") of the choice under the behaviour policy, > 0."""
    policy_version: Ints
    """[N] number of the behaviour policy's version; 0 is the traditional AI."""
    reward: Floats
    terminated: Bools
    truncated: Bools
    first: Bools
    """True on the first row of every actor's episode."""
    actor: Ints
    """[N] a number of the actor within its match; rows of one match share `match` and `step`."""
    match: Ints
    step: Ints
    enemies: Floats
    """[N, E, F]."""
    threat: Floats
    """[N, E], as in `Result`."""
    enemy_kind: Ints
    """[N] index in `ARCHETYPES` of the opponents' archetype in this match."""
    maps: NDArray[np.uint8] | None
    """[N, C, H, W], or None where none were kept."""
    target: Ints
    """[N] map patch (row-major, 8 x 8 pixels each) where the actor stood 8 steps later."""

    def __len__(self) -> int:
        """Return N."""
        return len(self.reward)

    def take(self, rows: Ints) -> Episodes:
        """Return copies of some rows in the order asked for."""

        def some(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: column[rows] for name, column in value.items()}
            return None if value is None else value[rows]

        return Episodes(*(some(getattr(self, f.name)) for f in dataclasses.fields(self)))


def split_by_match(rows: Episodes, held_out: float) -> tuple[Episodes, Episodes]:
    """Return rows to learn from and rows to judge by; a match lies wholly in one of them.

    The newest matches are held out (their numbers rise with time): a split by rows would let a
    model see the neighbours of what it is judged by.

    Raises:
        ValueError: there are fewer than two matches.
    """
    matches = np.unique(rows.match)
    if len(matches) < 2:
        msg = f"$.match must name at least 2 matches to split; got {len(matches)}"
        raise ValueError(msg)
    n = min(max(1, round(len(matches) * held_out)), len(matches) - 1)
    judged = rows.match >= matches[-n]
    order = np.arange(len(rows))
    return rows.take(order[~judged]), rows.take(order[judged])
