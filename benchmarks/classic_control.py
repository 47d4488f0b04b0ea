"""Gymnasium's CartPole-v1 and LunarLander-v3 to practise in, and a log of the former."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from schemas.practice import Bools, Episodes, Floats, Head, Result, View

A = 2
LIMIT = 500
"""Steps of an episode of CartPole, which makes the best return 500."""


@dataclasses.dataclass(frozen=True)
class ControlLayout:
    """See `schemas.practice.Layout`; there is neither a pack nor an enemy."""

    n_features: int
    n_actions: dict[Head, int]
    pack: int = 1
    n_enemies: int = 1
    n_enemy_features: int = 1
    map_shape: tuple[int, int, int] = (1, 8, 8)
    skills: Floats = dataclasses.field(default_factory=lambda: np.zeros((1, 1), np.float32))


def _poles(n: int) -> Any:
    return CartPoleVectorEnv(n, LIMIT)


def _landers(n: int) -> Any:
    return SyncVectorEnv([lambda: gymnasium.make("LunarLander-v3")] * n)


@dataclasses.dataclass(frozen=True)
class Control:
    """A world of Gymnasium's."""

    name: str
    n_features: int
    n_actions: int
    make: Callable[[int], Any]
    """A vector environment of n worlds that spends a step on beginning an episode anew."""
    scale: float = 1.0
    """Of the rewards a learner sees, which makes returns of a few units; scores are unscaled."""


CARTPOLE = Control("CartPole-v1", 4, 2, _poles)
LANDER = Control("LunarLander-v3", 8, 4, _landers, scale=0.05)


class ControlWorld:
    """A `schemas.practice.Practice` of S independent lots; the head "combat" acts.

    Gymnasium spends a step on an episode's new beginning: in it the row is not alive.
    """

    def __init__(self, n_models: int, control: Control = CARTPOLE) -> None:
        """Take S."""
        self.layout = ControlLayout(control.n_features, {"combat": control.n_actions})
        self._s, self._control = n_models, control

    def begin(
        self, head: Head, n_matches: int, seed: int, difficulty: int | Sequence[int] = 2
    ) -> View:
        """Begin ``n_matches`` episodes for each model."""
        self._env = self._control.make(self._s * n_matches)
        self._size = (self._s, n_matches)
        self._see(self._env.reset(seed=seed)[0])
        self._ended = np.zeros(self._size, np.bool_)
        return self._view(np.ones(self._size, np.bool_))

    def _see(self, observation: NDArray[Any]) -> None:
        self._observation = np.float32(observation).reshape(*self._size, -1)

    def _view(self, first: Bools) -> View:
        legal = np.ones((*self._size, self._control.n_actions), np.bool_)
        enemies = np.zeros((*self._size, 1, 1), np.float32)
        none = np.zeros((*self._size, 1, 8, 8), np.uint8)
        return View(self._observation, legal, enemies, ~self._ended, first, lambda: none)

    def step(self, choice: NDArray[Any] | None) -> tuple[View, Result]:
        """Take a step; None: CartPole is pushed by a rule that hardly ever lets a pole fall."""
        own = good_push(self._observation) if choice is None else np.zeros(self._size, np.int64)
        chosen = (own if choice is None else choice).reshape(-1)
        observation, reward, terminated, truncated, _ = self._env.step(chosen)
        anew = self._ended
        self._see(observation)
        terminated, truncated = terminated.reshape(self._size), truncated.reshape(self._size)
        self._ended = terminated | truncated
        nothing = np.zeros((*self._size, 2), np.float32)
        result = Result(
            (self._control.scale * reward).reshape(self._size).astype(np.float32), terminated,
            truncated, self._observation, np.zeros((*self._size, 1), np.float32), own, nothing,
            [(int(s), float(truncated[s, b])) for s, b in np.argwhere(self._ended)],
        )  # fmt: skip
        return self._view(anew), result

    def play(
        self,
        head: Head,
        policy: Callable[[View], NDArray[Any]] | None,
        n_matches: int,
        seed: int,
        difficulty: int | Sequence[int] = 2,
    ) -> Floats:
        """Return each first episode's return [S, n_matches]."""
        view = self.begin(head, n_matches, seed)
        total, going = np.zeros(self._size, np.float32), np.ones(self._size, np.bool_)
        while going.any():
            view, result = self.step(None if policy is None else policy(view))
            total += result.reward * going
            going &= ~self._ended
        return total / np.float32(self._control.scale)


def good_push(observation: Floats) -> NDArray[np.int64]:
    """Return pushes towards where the pole falls, and gently back to the middle."""
    wish = observation @ np.array([0.05, 0.2, 1.0, 0.5], np.float32)
    return (wish > 0).astype(np.int64)


def mixed_log(n_rows: int, seed: int, skill: Sequence[float] = (0.0, 0.4, 0.7)) -> Episodes:
    """Return whole episodes, about ``n_rows`` steps, of players who push well with these chances.

    An equal number of poles each; a good push is `good_push`'s, any other one is a coin's.
    """
    world, rng = ControlWorld(1), np.random.default_rng(seed)
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
