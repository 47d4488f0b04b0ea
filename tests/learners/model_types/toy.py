"""A world small enough to be solved in seconds, with every column that the types read.

An observation shows which choice is right (``observation[k] = 1``); choosing it earns 1, all else
earns 0, and the wish of step t + 1 does not depend on the choice of step t. Enemy e does the damage
that its first fact tells; the patch to go to is in the map's first pixel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.practice import Episodes, Floats, Head, Result, View

N_ARCHETYPES = 2
STEPS = 12
"""Steps of a match; it ends truncated in even matches and terminated in odd ones."""


@dataclasses.dataclass(frozen=True)
class ToyLayout:
    n_features: int = 8
    pack: int = 5
    n_enemies: int = 3
    n_enemy_features: int = 4
    n_actions: dict[Head, int] = dataclasses.field(
        default_factory=lambda: {"combat": 4, "movement": 4, "skill": 4, "aim": 2}
    )
    map_shape: tuple[int, int, int] = (2, 16, 16)
    skills: Floats = dataclasses.field(default_factory=lambda: np.eye(4, 6, dtype=np.float32))


class ToyWorld:
    """A `schemas.practice.Practice`; "aim" is to be ``(+-0.5, 0)`` by the wish."""

    def __init__(self, n_archetypes: int = N_ARCHETYPES) -> None:
        self.layout = ToyLayout()
        self._s = n_archetypes

    def begin(
        self, head: Head, n_matches: int, seed: int, difficulty: int | Sequence[int] = 2
    ) -> View:
        self._head: Head = head
        self._b, self._rng = n_matches * self.layout.pack, np.random.default_rng(seed)
        self._step = 0
        return self._draw()

    def _draw(self) -> View:
        size, layout = (self._s, self._b), self.layout
        self._wish = self._rng.integers(0, 4, size)
        observation = np.zeros((*size, layout.n_features), np.float32)
        np.put_along_axis(observation, self._wish[..., None], 1.0, 2)
        observation[..., 5] = 0.5
        self._observation = observation
        drawn = self._rng.random((*size, 3, 4)).astype(np.float32)
        leaders = drawn.reshape(self._s, -1, layout.pack, 3, 4)[:, :, :1]  # a pack meets the same
        self._enemies = leaders.repeat(layout.pack, 2).reshape(drawn.shape)
        odd = np.arange(self._b) // layout.pack % 2 == 1
        self._enemies[..., 3] = np.where(odd, self._step % 4 == 0, self._step % 2 == 0)[:, None]
        legal = np.ones((*size, layout.n_actions[self._head]), np.bool_)
        if self._head != "aim":
            illegal = (self._wish + 1) % 4
            np.put_along_axis(legal, illegal[..., None], np.False_, 2)
        maps = np.zeros((*size, *layout.map_shape), np.uint8)
        maps[..., 0, 0, 0] = self._wish
        alive, first = np.ones(size, np.bool_), np.full(size, self._step % STEPS == 0)
        return View(observation, legal, self._enemies, alive, first, lambda: maps)

    def step(self, choice: NDArray[Any] | None) -> tuple[View, Result]:
        right = self._wish.copy()
        aim = np.zeros((*right.shape, 2), np.float32)
        aim[..., 0] = np.where(right % 2 == 0, 0.5, -0.5)
        if self._head == "aim":
            chosen = aim if choice is None else choice
            reward = 1.0 - np.square(chosen - aim).sum(-1)
        else:
            reward = np.ones(right.shape) if choice is None else (choice == right) * 1.0
        threat = self._enemies[..., 0].copy()
        self._step += 1
        over = self._step % STEPS == 0
        ended = np.full(right.shape, over)
        even = (np.arange(self._b) // self.layout.pack) % 2 == 0
        last = self._observation
        matches = [(s, 1.0) for s in range(self._s)] if over else []
        view = self._draw()
        return view, Result(
            reward.astype(np.float32), ended & ~even, ended & even, last, threat, right, aim,
            matches,
        )  # fmt: skip

    def play(
        self,
        head: Head,
        policy: Callable[[View], NDArray[Any]] | None,
        n_matches: int,
        seed: int,
        difficulty: int | Sequence[int] = 2,
    ) -> Floats:
        """A match is won by its mean reward."""
        view = self.begin(head, n_matches, seed)
        won = np.zeros((self._s, self._b), np.float32)
        for _ in range(STEPS):
            view, result = self.step(None if policy is None else policy(view))
            won += result.reward / STEPS
        share: Floats = won.reshape(self._s, n_matches, -1).mean(2)
        return share


GAIN: Floats = np.arange(10, dtype=np.float32) / np.float32(10)
"""Of the ten actors of two matches, in every step of a `GainingWorld`."""


class GainingWorld(ToyWorld):
    """Each actor gets its pack ahead by as much in every step."""

    def step(self, choice: NDArray[Any] | None) -> tuple[View, Result]:
        view, result = super().step(choice)
        gain = np.broadcast_to(GAIN, result.reward.shape)
        return view, dataclasses.replace(result, gain=gain)


def toy_episodes(n_matches: int = 20, seed: int = 0, epsilon: float = 0.5) -> Episodes:
    """Logged rows of one archetype: the right choice, or with ``epsilon`` a legal one at random."""
    world = ToyWorld(1)
    columns: dict[str, list[Any]] = {}
    rng = np.random.default_rng(seed)
    view = world.begin("combat", n_matches, seed)
    b = n_matches * world.layout.pack
    for step in range(STEPS):
        wish = view.observation[0, :, :4].argmax(1)
        chance = view.legal[0] / view.legal[0].sum(1, keepdims=True)
        explored = rng.random(b) < epsilon
        drawn = (chance.cumsum(1) > rng.random(b)[:, None]).argmax(1)
        action = np.where(explored, drawn, wish)
        propensity = epsilon * chance[np.arange(b), action] + (1 - epsilon) * (action == wish)
        before = view
        view, result = world.step(action[None])
        row = {
            "observation": before.observation[0], "next_observation": view.observation[0],
            "action": action, "aim": result.aim[0], "legal": before.legal[0],
            "propensity": propensity.astype(np.float32), "reward": result.reward[0],
            "terminated": result.terminated[0], "truncated": result.truncated[0],
            "first": np.full(b, step == 0), "actor": np.arange(b) % 5,
            "match": np.arange(b) // 5, "step": np.full(b, step), "enemies": before.enemies[0],
            "threat": result.threat[0], "maps": before.maps()[0],
        }  # fmt: skip
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    # [T, B, ...] -> rows in order of (actor's episode, step)
    flat = {k: np.stack(v, 1).reshape(b * STEPS, *v[0].shape[1:]) for k, v in columns.items()}
    flat["next_observation"][flat["terminated"]] = 0.0
    heads: tuple[Head, ...] = ("combat", "movement", "skill")
    n = b * STEPS
    return Episodes(
        flat["observation"], flat["next_observation"],
        {h: flat["action"].astype(np.int64) for h in heads}, flat["aim"],
        {h: flat["legal"] for h in heads},
        {**{h: flat["propensity"] for h in heads}, "aim": np.ones(n, np.float32)},
        np.zeros(n, np.int64), flat["reward"], flat["terminated"], flat["truncated"],
        flat["first"], flat["actor"], flat["match"], flat["step"], flat["enemies"], flat["threat"],
        (flat["match"] % 2).astype(np.int64), flat["maps"],
        (flat["maps"][:, 0, 0, 0] % 4).astype(np.int64),
    )  # fmt: skip
