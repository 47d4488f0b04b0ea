"""The arena for other people's learners: Gymnasium for one actor, PettingZoo for all ten.

An action holds all heads: ``{"combat": 0..9, "movement": 0..8, "skill": 0..7, "aim": [x, y]}``.
These interfaces draw actions without looking at masks, so what is not legal counts as the head's
neutral choice (wait, stand, none); ``info["action_mask"]`` has the masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from games.arena import rules
from games.arena.draws import keys_of
from games.arena.practice import survived
from games.arena.rewards import rewards
from games.arena.scripted import scripted
from games.arena.sight import Floats
from games.arena.view import observe
from games.arena.world import Arena, Orders
from schemas.practice import ARCHETYPES, Head

P = rules.PACK
HEADS: Final[tuple[Head, ...]] = ("combat", "movement", "skill")
Action = Mapping[str, Any]
BOUND: Final = 50.0
"""Observations stay well within; they are about 1."""


def observation_space() -> spaces.Box:
    """Return the space of what an actor sees; docs/games/arena.md names the 64 numbers."""
    return spaces.Box(-BOUND, BOUND, (rules.FEATURES,), np.float32)


def action_space(seed: int | None = None) -> spaces.Dict:
    """Return the space of an actor's action."""
    heads: dict[str, spaces.Space[Any]] = {
        head: spaces.Discrete(rules.N_CHOICES[head]) for head in HEADS
    }
    return spaces.Dict({**heads, "aim": spaces.Box(-1.0, 1.0, (2,), np.float32)}, seed=seed)


class _Match:
    """One match, and what both interfaces ask of it."""

    def __init__(self, archetypes: tuple[str, str], difficulty: int) -> None:
        for name in archetypes:
            if name not in ARCHETYPES:
                msg = f"archetype must be one of {', '.join(ARCHETYPES)}; got {name!r}"
                raise ValueError(msg)
        if not 0 <= difficulty <= 4:
            msg = f"difficulty must be 0 to 4; got {difficulty}"
            raise ValueError(msg)
        self.arena = Arena(1)
        self._kinds = np.array([[ARCHETYPES.index(name)] for name in archetypes], np.int64)
        self._degree = np.array([2, difficulty], np.int64)[:, None, None]

    def begin(self, seed: int) -> None:
        none = np.zeros(1, np.bool_)
        self.arena.begin(np.arange(1), keys_of(seed, 1), self._kinds, none)

    def step(self, actions: Mapping[tuple[int, int], Action]) -> Floats:
        """Take a step, the script acting for all who are not named; rewards f32[2, 5]."""
        own = scripted(self.arena, self._degree)
        orders = Orders(own.combat.copy(), own.move.copy(), own.skill.copy(), own.aim.copy())
        for (side, slot), action in actions.items():
            orders.combat[side, slot, 0] = int(action["combat"])
            orders.move[side, slot, 0] = int(action["movement"])
            orders.skill[side, slot, 0] = int(action["skill"])
            orders.aim[:, side, slot, 0] = np.asarray(action["aim"], np.float32)
        facts = self.arena.step(orders)
        facts["survived"] = survived(self.arena)
        return rewards(facts, self.arena.kind)[:, :, 0]

    def seen(self, side: int) -> Floats:
        """f32[5, 64]."""
        seen: Floats = np.clip(observe(self.arena, side)[0], -BOUND, BOUND)
        return seen

    def masks(self, side: int, slot: int) -> dict[str, NDArray[np.int8]]:
        """Return the masks of an actor's heads."""
        return {head: self.arena.legal(head)[:, side, slot, 0].astype(np.int8) for head in HEADS}


class ArenaEnv(gymnasium.Env[Floats, Action]):
    """One actor of a pack, all others scripted; its episode ends with it or with the match."""

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own way

    def __init__(self, archetype: str = "aggressive", difficulty: int = 2) -> None:
        """Take the archetype of both packs, and how well the opponents play.

        Raises:
            ValueError: one of them is not known.
        """
        self._match = _Match((archetype, archetype), difficulty)
        self.observation_space: spaces.Space[Floats] = cast(Any, observation_space())
        self.action_space: spaces.Space[Action] = cast(Any, action_space())
        self.render_mode = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin a match."""
        super().reset(seed=seed, options=options)
        self._match.begin(int(self.np_random.integers(2**31)))
        return self._match.seen(0)[0], self._info()

    def step(self, action: Action) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Take a step."""
        reward = self._match.step({(0, 0): action})
        arena = self._match.arena
        terminated = bool(arena.decided[0] or not arena.alive[0, 0, 0])
        truncated = bool(arena.over[0]) and not terminated
        seen = self._match.seen(0)[0]
        return seen, float(reward[0, 0]), terminated, truncated, self._info()

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self._match.masks(0, 0)}


class ArenaParallel(ParallelEnv):  # type: ignore[misc]
    """All ten actors of a match: ``home_0`` to ``home_4`` and ``away_0`` to ``away_4``."""

    metadata = {"name": "arena_v1", "render_modes": []}  # noqa: RUF012 - PettingZoo's own way

    def __init__(self, home: str = "aggressive", away: str | None = None) -> None:
        """Take the packs' archetypes; away's is home's where it is not told.

        Raises:
            ValueError: one of them is not known.
        """
        self._match = _Match((home, away or home), 2)
        self.possible_agents = [f"{side}_{slot}" for side in ("home", "away") for slot in range(P)]
        self.agents: list[str] = []
        self._places = {name: divmod(k, P) for k, name in enumerate(self.possible_agents)}
        self.observation_spaces = {name: observation_space() for name in self.possible_agents}
        self.action_spaces = {name: action_space() for name in self.possible_agents}
        self.render_mode = None
        self._rng = np.random.default_rng()

    def observation_space(self, agent: str) -> spaces.Box:
        """Return an agent's observation space, always the same one."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Dict:
        """Return an agent's action space, always the same one."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Floats], dict[str, dict[str, Any]]]:
        """Begin a match."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._match.begin(int(self._rng.integers(2**31)))
        self.agents = self.possible_agents[:]
        return self._seen(self.agents), self._infos(self.agents)

    def step(
        self, actions: Mapping[str, Action]
    ) -> tuple[
        dict[str, Floats],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Take a step; who died is gone from `agents` afterwards."""
        acting = self.agents
        reward = self._match.step({self._places[name]: actions[name] for name in acting})
        arena = self._match.arena
        decided, over = bool(arena.decided[0]), bool(arena.over[0])
        ended = {name: decided or not arena.alive[(*self._places[name], 0)] for name in acting}
        cut = {name: over and not ended[name] for name in acting}
        self.agents = [name for name in acting if not (ended[name] or cut[name])]
        paid = {name: float(reward[self._places[name]]) for name in acting}
        terminated = {name: bool(flag) for name, flag in ended.items()}
        return self._seen(acting), paid, terminated, cut, self._infos(acting)

    def _seen(self, agents: list[str]) -> dict[str, Floats]:
        both = [self._match.seen(side) for side in (0, 1)]
        places = {name: self._places[name] for name in agents}
        return {name: both[side][slot] for name, (side, slot) in places.items()}

    def _infos(self, agents: list[str]) -> dict[str, dict[str, Any]]:
        return {name: {"action_mask": self._match.masks(*self._places[name])} for name in agents}
