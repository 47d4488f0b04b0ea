"""The arena as a world to practise in: `schemas.practice.Practice`.

S archetypes lie side by side among the matches: match ``w = s * M + m``. Home is side 0; in odd
matches the sides have changed starts. One head of home's is the learner's, all else is scripted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from games.arena import rules
from games.arena.blows import Facts
from games.arena.draws import GOLDEN, keys_of, mixed
from games.arena.rewards import rewards
from games.arena.scripted import scripted
from games.arena.sight import Flags, Floats, Ints
from games.arena.view import N_ENEMY, Scenes, draw, enemy_facts, observe, scenes
from games.arena.world import Arena, Orders
from schemas.practice import ARCHETYPES, Head, Result, View

P = rules.PACK
_FIELD: Final[dict[Head, str]] = {
    "combat": "combat", "movement": "move", "skill": "skill", "aim": "aim",
}  # fmt: skip
_AT_ONCE: Final = 256
"""Matches an archetype that `ArenaPractice.play` plays side by side: more only fills caches."""


@dataclasses.dataclass(frozen=True)
class ArenaLayout:
    """See `schemas.practice.Layout`."""

    n_features: int = rules.FEATURES
    pack: int = P
    n_enemies: int = P
    n_enemy_features: int = N_ENEMY
    n_actions: dict[Head, int] = dataclasses.field(default_factory=lambda: dict(rules.N_CHOICES))
    map_shape: tuple[int, int, int] = (rules.MAP_CHANNELS, rules.MAP_SIZE, rules.MAP_SIZE)
    skills: Floats = dataclasses.field(default_factory=lambda: rules.SKILL_FACTS.copy())


class ArenaPractice:
    """Matches of each archetype against its mirror image; see `schemas.practice.Practice`."""

    def __init__(
        self, archetypes: Sequence[str] = ARCHETYPES, opponents: Sequence[str] | None = None
    ) -> None:
        """Take the archetypes that are to play, in the order of S.

        Args:
            archetypes: of home's packs.
            opponents: archetypes of away's packs, one after the other from match to match; None:
                each archetype meets its own.

        Raises:
            ValueError: one is not known.
        """
        for name in (*archetypes, *(opponents or ())):
            if name not in ARCHETYPES:
                msg = f"archetypes must be among {', '.join(ARCHETYPES)}; got {name!r}"
                raise ValueError(msg)
        self.layout = ArenaLayout()
        self.archetypes = tuple(archetypes)
        self._kinds = np.array([ARCHETYPES.index(name) for name in archetypes], np.int64)
        self._away = [ARCHETYPES.index(name) for name in opponents or ()]
        self._head: Head = "combat"

    # -- the protocol

    def begin(
        self, head: Head, n_matches: int, seed: int, difficulty: int | Sequence[int] = 2
    ) -> View:
        """See `schemas.practice.Practice.begin`.

        Raises:
            ValueError: an argument is out of range.
        """
        self.start(head, n_matches, seed, difficulty)
        return self._view()

    def step(self, choice: NDArray[Any] | None) -> tuple[View, Result]:
        """See `schemas.practice.Practice.step`; matches that ended begin anew.

        Raises:
            ValueError: a living actor's choice is not legal, or an aim is not finite. A policy
                that asks for what its mask forbids has a fault, which is not to be learned from.
        """
        arena = self.arena
        own = scripted(arena, self.degree)
        alive = arena.alive[0]
        orders = own if choice is None else self._with(own, choice)
        facts = arena.step(orders)
        over, decided, scores = arena.over, arena.decided, arena.scores()
        facts["survived"] = survived(arena)
        died = alive & ~arena.alive[0]
        result = Result(
            reward=self._rows(rewards(_side(facts), arena.kind[0])),
            terminated=self._rows(died | (decided & alive)),
            truncated=self._rows(arena.alive[0] & over & ~decided),
            last_observation=self._flat(observe(arena, 0)),
            threat=self._threat(),
            choice=self._own_choice(own, alive),
            aim=self._flat(np.ascontiguousarray(own.aim[:, 0].transpose(2, 1, 0))),
            matches=[
                (int(w) // self._m, float(scores[w])) for w in np.flatnonzero(over)
            ],
            gain=self._rows(gain(arena, facts)),
        )  # fmt: skip
        self._restart(np.flatnonzero(over))
        return self._view(result.last_observation if not over.any() else None), result

    def play(
        self,
        head: Head,
        policy: Callable[[View], NDArray[Any]] | None,
        n_matches: int,
        seed: int,
        difficulty: int | Sequence[int] = 2,
    ) -> Floats:
        """See `schemas.practice.Practice.play`; matches 2k and 2k + 1 share a start."""
        parts = []
        for lo in range(0, n_matches, _AT_ONCE):
            n = min(_AT_ONCE, n_matches - lo)
            self.start(head, n, seed, difficulty, first=lo)
            arena = self.arena
            while not arena.over.all():
                orders = scripted(arena, self.degree)
                if policy is not None:
                    orders = self._with(orders, policy(self._view()))
                arena.step(orders)
            parts.append(arena.scores().reshape(len(self._kinds), n))
        return np.concatenate(parts, axis=1)

    # -- matches

    def start(
        self,
        head: Head,
        n_matches: int,
        seed: int,
        difficulty: int | Sequence[int] = 2,
        first: int = 0,
    ) -> None:
        """Start matches, the numbers of which begin at `first`; see `begin`."""
        if head not in _FIELD:
            msg = f"head must be one of {', '.join(_FIELD)}; got {head!r}"
            raise ValueError(msg)
        if n_matches < 1:
            msg = f"n_matches must be at least 1; got {n_matches}"
            raise ValueError(msg)
        s = len(self._kinds)
        degrees = np.asarray(difficulty, np.int64)
        if degrees.shape not in ((), (s,)) or degrees.min() < 0 or degrees.max() > 4:
            msg = f"difficulty must be 0 to 4, one for all or one for each of {s}; got {difficulty}"
            raise ValueError(msg)
        self._head, self._m = head, n_matches
        self.arena = Arena(s * n_matches)
        self.degree = np.full((2, 1, self.arena.n), 2, np.int64)
        self.degree[1, 0] = np.repeat(np.broadcast_to(degrees, s), n_matches)
        match = first + np.arange(n_matches)
        # Archetypes differ in their starts; the two matches of a pair do not.
        pairs = keys_of(seed, s, 1) ^ mixed((match // 2 + 1).astype(np.uint64) * GOLDEN)
        self._base = np.broadcast_to(pairs, (s, n_matches)).ravel().copy()
        self._flip = np.broadcast_to(match % 2 == 1, (s, n_matches)).ravel().copy()
        home = np.repeat(self._kinds, n_matches)
        away = (
            np.tile(np.array(self._away)[match // 2 % len(self._away)], s) if self._away else home
        )
        self._kind = np.stack([home, away])
        self._n_begun = np.zeros(self.arena.n, np.uint64)
        self._restart(np.arange(self.arena.n))

    def _restart(self, which: Ints) -> None:
        if len(which):
            seeds = mixed(self._base[which] + self._n_begun[which] * GOLDEN)
            self.arena.begin(which, seeds, self._kind[:, which], self._flip[which])
            self._n_begun[which] += np.uint64(1)

    # -- rows

    def _rows(self, values: NDArray[Any]) -> NDArray[Any]:
        """[5, W] to [S, B]."""
        return np.ascontiguousarray(values.T).reshape(len(self._kinds), self._m * P)

    def _flat(self, values: NDArray[Any]) -> NDArray[Any]:
        """[W, 5, ...] to [S, B, ...]."""
        return values.reshape(len(self._kinds), self._m * P, *values.shape[2:])

    def _slots(self, choice: NDArray[Any]) -> NDArray[Any]:
        """[S, B, ...] to [5, W, ...]."""
        return np.swapaxes(choice.reshape(self.arena.n, P, *choice.shape[2:]), 0, 1)

    def _view(self, observation: Floats | None = None) -> View:
        arena = self.arena
        legal = arena.legal(self._head)[:, 0]
        return View(
            observation=self._flat(observe(arena, 0)) if observation is None else observation,
            legal=self._flat(np.ascontiguousarray(legal.transpose(2, 1, 0))),
            enemies=self._flat(enemy_facts(arena, 0)),
            alive=self._rows(arena.alive[0]),
            first=self._rows(np.broadcast_to(arena.step_no == 0, (P, arena.n))),
            maps=self._maps,
        )

    def _maps(self) -> NDArray[np.uint8]:
        every = scenes(self.arena, 0)
        # A row for each of a pack's five: they differ in who looks.
        rows = Scenes(*(np.repeat(part, P, axis=-1) for part in every))
        maps = draw(rows, np.tile(np.arange(P), self.arena.n))
        return maps.reshape(len(self._kinds), self._m * P, *maps.shape[1:])

    def _with(self, orders: Orders, choice: NDArray[Any]) -> Orders:
        """Put the learner's choices for one head in the place of home's own."""
        rows = (len(self._kinds), self._m * P)
        wanted = (*rows, 2) if self._head == "aim" else rows
        if choice.shape != wanted:
            msg = f"choice must be shaped {wanted}; got {choice.shape}"
            raise ValueError(msg)
        alive = self.arena.alive[0]
        chosen = self._slots(choice)
        mixed_in = getattr(orders, _FIELD[self._head]).copy()
        if self._head == "aim":
            if not np.isfinite(chosen[alive]).all():
                msg = "choice must be finite; got NaN or infinity"
                raise ValueError(msg)
            mixed_in[:, 0] = np.moveaxis(chosen, -1, 0)
        else:
            index = chosen.astype(np.int64)
            self._refuse(index, alive)
            mixed_in[0] = np.where(alive, index, 0)
        return orders._replace(**{_FIELD[self._head]: mixed_in})

    def _refuse(self, index: Ints, alive: Flags) -> None:
        legal = self.arena.legal(self._head)[:, 0]
        known = (index >= 0) & (index < len(legal))
        fine = np.take_along_axis(legal, np.where(known, index, 0)[None], axis=0)[0] & known
        if not (fine | ~alive).all():
            s, b = np.argwhere(self._rows(~fine & alive))[0].tolist()
            got = int(self._rows(index)[s, b])
            msg = f"choice[{s}, {b}] of {self._head} must be legal by its mask; got {got}"
            raise ValueError(msg)

    def _own_choice(self, own: Orders, alive: Flags) -> Ints:
        if self._head == "aim":
            return np.zeros((len(self._kinds), self._m * P), np.int64)
        choice: Ints = getattr(own, _FIELD[self._head])[0]
        return self._rows(np.where(alive, choice, 0))

    def _threat(self) -> Floats:
        arena = self.arena
        share = arena.dealt[1] / arena.stat["hit_points"][0].mean(axis=0)
        return self._flat(np.repeat(share.T[:, None], P, axis=1))


def survived(arena: Arena) -> Floats:
    """f32[2, 5, W]: 1 for who stands when a match is won by its pack, in the step it is won."""
    won = arena.decided & arena.alive.any(axis=1)
    return (arena.alive & won[:, None]).astype(np.float32)


def gain(arena: Arena, facts: Facts) -> Floats:
    """f32[5, W]: damage each of home's actors dealt, less what it took, and its healing.

    In shares of a pack's hit points.
    """
    dealt = arena.dealt[0] / arena.stat["hit_points"][1].sum(axis=0)
    taken = arena.taken[0] / arena.stat["hit_points"][0].sum(axis=0)
    healed = facts["effective_healing"][0] / (rules.LIFE * P)
    own: Floats = dealt - taken + healed
    return own


def _side(facts: Facts) -> Facts:
    return {name: fact[0] for name, fact in facts.items()}
