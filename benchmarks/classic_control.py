"""CartPole-v1 of Gymnasium to practise in, and a log of it by players of mixed skill."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from numpy.typing import NDArray

from schemas.practice import Bools, Episodes, Floats, Head, Result, View

D, A = 4, 2
LIMIT = 500
"""Steps of an episode, which makes the best return 500."""


@dataclasses.dataclass(frozen=True)
class CartPoleLayout:
    """See `schemas.practice.Layout`; there is neither a pack nor an enemy."""

    n_features: int = D
    pack: int = 1
    n_enemies: int = 1
    n_enemy_features: int = 1
    n_actions: dict[Head, int] = dataclasses.field(default_factory=lambda: {"combat": A})
    map_shape: tuple[int, int, int] = (1, 8, 8)
    skills: Floats = dataclasses.field(default_factory=lambda: np.zeros((1, 1), np.float32))


class CartPole:
    """A `schemas.practice.Practice` of S independent lots of poles; the head "combat" pushes.

    Gymnasium spends a step on putting a fallen pole up again: in it the row is not alive.
    """

    def __init__(self, n_models: int) -> None:
        """Take S."""
        self.layout = CartPoleLayout()
        self._s = n_models

    def begin(
        self, head: Head, n_matches: int, seed: int, difficulty: int | Sequence[int] = 2
    ) -> View:
        """Put ``n_matches`` poles up for each model."""
        self._env = CartPoleVectorEnv(self._s * n_matches, LIMIT)
        self._size = (self._s, n_matches)
        self._observation = self._env.reset(seed=seed)[0].reshape(*self._size, D)
        self._fallen = np.zeros(self._size, np.bool_)
        return self._view(np.ones(self._size, np.bool_))

    def _view(self, first: Bools) -> View:
        legal = np.ones((*self._size, A), np.bool_)
        enemies = np.zeros((*self._size, 1, 1), np.float32)
        none = np.zeros((*self._size, 1, 8, 8), np.uint8)
        return View(self._observation, legal, enemies, ~self._fallen, first, lambda: none)

    def step(self, choice: NDArray[Any] | None) -> tuple[View, Result]:
        """Push every pole; None: as a linear rule does, which hardly ever lets one fall."""
        own = good_push(self._observation)
        pushed = (own if choice is None else choice).reshape(-1)
        observation, reward, terminated, truncated, _ = self._env.step(pushed)
        put_up = self._fallen
        self._observation = observation.reshape(*self._size, D)
        ended = [terminated.reshape(self._size), truncated.reshape(self._size)]
        self._fallen = ended[0] | ended[1]
        nothing = np.zeros((*self._size, 2), np.float32)
        result = Result(
            reward.reshape(self._size).astype(np.float32), *ended, self._observation,
            np.zeros((*self._size, 1), np.float32), own, nothing,
            [(int(s), float(ended[1][s, b])) for s, b in np.argwhere(self._fallen)],
        )  # fmt: skip
        return self._view(put_up), result

    def play(
        self,
        head: Head,
        policy: Callable[[View], NDArray[Any]] | None,
        n_matches: int,
        seed: int,
        difficulty: int | Sequence[int] = 2,
    ) -> Floats:
        """Return each first episode's return [S, n_matches], 1 to 500."""
        view = self.begin(head, n_matches, seed)
        total, going = np.zeros(self._size, np.float32), np.ones(self._size, np.bool_)
        while going.any():
            view, result = self.step(None if policy is None else policy(view))
            total += result.reward * going
            going &= ~self._fallen
        return total


def good_push(observation: Floats) -> NDArray[np.int64]:
    """Return pushes towards where the pole falls, and gently back to the middle."""
    wish = observation @ np.array([0.05, 0.2, 1.0, 0.5], np.float32)
    return (wish > 0).astype(np.int64)


def mixed_log(n_rows: int, seed: int, skill: Sequence[float] = (0.0, 0.4, 0.7)) -> Episodes:
    """Return whole episodes, about ``n_rows`` steps, of players who push well with these chances.

    An equal number of poles each; a good push is `good_push`'s, any other one is a coin's.
    """
    world, rng = CartPole(1), np.random.default_rng(seed)
    n = 10 * len(skill)
    chance = np.tile(np.asarray(skill), n // len(skill))
    view = world.begin("combat", n, seed)
    columns: dict[str, list[NDArray[Any]]] = {}
    n_steps = n_rows // n + 1
    for _ in range(n_steps):
        good = good_push(view.observation)
        coin = rng.integers(0, A, good.shape)
        action = np.where(rng.random(good.shape) < chance, good, coin)
        before = view
        view, result = world.step(action)
        p = chance * (action == good) + (1 - chance) / A
        row = {
            "observation": before.observation, "next": result.last_observation,
            "alive": before.alive, "action": action, "propensity": p, "reward": result.reward,
            "first": before.first, "terminated": result.terminated, "truncated": result.truncated,
        }  # fmt: skip
        for name, value in row.items():
            columns.setdefault(name, []).append(value[0])
    return _episodes({k: np.stack(v, 1) for k, v in columns.items()})


def _episodes(columns: dict[str, NDArray[Any]]) -> Episodes:
    """Return columns [B, T, ...] as rows, pole by pole; an episode cut by the end is truncated."""
    columns["truncated"][:, -1] |= ~columns["terminated"][:, -1]
    alive = columns["alive"]
    flat = {name: column[alive] for name, column in columns.items()}
    n = len(flat["reward"])
    first = flat["first"].copy()
    first[0] = True
    match = np.cumsum(first) - 1
    step = np.arange(n) - np.flatnonzero(first)[match]
    none = np.zeros(n, np.int64)
    following = np.where(flat["terminated"][:, None], np.float32(0), flat["next"])
    return Episodes(
        observation=flat["observation"], next_observation=following,
        action={"combat": flat["action"].astype(np.int64)}, aim=np.zeros((n, 2), np.float32),
        legal={"combat": np.ones((n, A), np.bool_)},
        propensity={"combat": flat["propensity"].astype(np.float32)}, policy_version=none,
        reward=flat["reward"], terminated=flat["terminated"],
        truncated=flat["truncated"] & ~flat["terminated"], first=first, actor=none, match=match,
        step=step, enemies=np.zeros((n, 1, 1), np.float32), threat=np.zeros((n, 1), np.float32),
        enemy_kind=none, maps=None, target=none,
    )  # fmt: skip
