"""One match of MAgent2's battle, driven on the engine's own interface.

The engine is that of `magent2.environments.battle_v4` with `map_size=16, max_cycles=150,
minimap_mode=False` and its default rewards; `tests/games/test_world.py` plays both side by side.
PettingZoo's wrapper is left out: it copies every observation into dictionaries by agent name
and its import loads pygame.

What the seed controls: both packs always start on the same squares, and the engine draws only
the order in which the attacks of a step are carried out. Red's moves are carried out before
blue's and the start is not mirror-symmetric, so a comparison must change sides.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from magent2 import gridworld
from magent2.c_lib import _LIB
from numpy.typing import NDArray

MAP_SIZE: Final = 16
"""Squares along an edge, the outermost being wall; 16 gives packs of six."""
MAX_CYCLES: Final = 150
PACK_SIZE: Final = 6
VIEW: Final = 13
"""Edge of the observed square, the observer in its middle."""
CHANNELS: Final = 5
"""Wall, own presence, own health, enemy presence, enemy health (health in [0, 1])."""
OBSERVATION_SIZE: Final = VIEW * VIEW * CHANNELS
N_ACTIONS: Final = 21
N_MOVES: Final = 13
"""Actions 0-12 go to a square at a distance of at most 2 (6 stays), 13-20 hit a neighbour."""
HEALTH: Final = 10.0

STEP_REWARD: Final = -0.005
ATTACK_REWARD: Final = -0.1
HIT_REWARD: Final = 0.2
KILL_REWARD: Final = 5.0
DEAD_REWARD: Final = -0.1

RED: Final = 0
BLUE: Final = 1
TEAMS: Final = (RED, BLUE)
Result = Literal["won", "lost", "draw"]

_GAP: Final = 3
_EMBEDDING: Final = 10
_ACTIONS: Final = frozenset(range(N_ACTIONS))
_FEATURES: Final = _EMBEDDING + N_ACTIONS + 1


class Acted(NamedTuple):
    """What one step brought to the agents of a team that acted in it; n of them.

    slots: i32[n] places in the pack, 0 to 5. rewards: f32[n]. alive: bool[n], after the step.
    moved: bool[n], whether the agent stands elsewhere than before.
    """

    slots: NDArray[np.int32]
    rewards: NDArray[np.float32]
    alive: NDArray[np.bool_]
    moved: NDArray[np.bool_]


def _config() -> Any:
    """The rules of battle_v4 as its own `get_config` writes them."""
    cfg = gridworld.Config()
    cfg.set({"map_width": MAP_SIZE, "map_height": MAP_SIZE, "minimap_mode": False})
    cfg.set({"embedding_size": _EMBEDDING})
    small = cfg.register_agent_type(
        "small",
        {
            "width": 1,
            "length": 1,
            "hp": HEALTH,
            "speed": 2,
            "view_range": gridworld.CircleRange(6),
            "attack_range": gridworld.CircleRange(1.5),
            "damage": 2,
            "kill_reward": KILL_REWARD,
            "step_recover": 0.1,
            "step_reward": STEP_REWARD,
            "dead_penalty": DEAD_REWARD,
            "attack_penalty": ATTACK_REWARD,
        },
    )
    red = gridworld.AgentSymbol(cfg.add_group(small), index="any")
    blue = gridworld.AgentSymbol(cfg.add_group(small), index="any")
    for one, other in ((red, blue), (blue, red)):
        hit = gridworld.Event(one, "attack", other)
        cfg.add_reward_rule(hit, receiver=one, value=HIT_REWARD)
    return cfg


def _start_squares() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The starting squares of red and blue, i32[6, 3] each (x, y, direction)."""
    side = int(math.sqrt(MAP_SIZE * MAP_SIZE * 0.04)) * 2
    ys = range((MAP_SIZE - side) // 2, (MAP_SIZE + side) // 2, 2)
    packs = []
    for left in (MAP_SIZE // 2 - _GAP - side, MAP_SIZE // 2 + _GAP):
        xs = range(left, left + side, 2)
        squares = [(x, y, 0) for x in xs for y in ys if 0 < x < MAP_SIZE - 1]
        packs.append(np.array(squares[:PACK_SIZE], dtype=np.int32))
    return packs[0], packs[1]


class _Team:
    """Buffers the engine fills for one team; their addresses never change."""

    def __init__(self, handle: ctypes.c_int32) -> None:
        self.handle = handle
        self.views = np.zeros((PACK_SIZE, OBSERVATION_SIZE), dtype=np.float32)
        self.features = np.zeros((PACK_SIZE, _FEATURES), dtype=np.float32)
        self.ids = np.zeros(PACK_SIZE, dtype=np.int32)
        self.rewards = np.zeros(PACK_SIZE, dtype=np.float32)
        self.alive = np.zeros(PACK_SIZE, dtype=np.bool_)
        self.positions = np.zeros((PACK_SIZE, 2), dtype=np.int32)
        self.actions = np.zeros(PACK_SIZE, dtype=np.int32)
        self.n = 0
        floats = ctypes.POINTER(ctypes.c_float)
        self.observation_address = (floats * 2)(
            self.views.ctypes.data_as(floats), self.features.ctypes.data_as(floats)
        )
        self.ids_address = ctypes.c_void_p(self.ids.ctypes.data)
        self.rewards_address = ctypes.c_void_p(self.rewards.ctypes.data)
        self.alive_address = ctypes.c_void_p(self.alive.ctypes.data)
        self.positions_address = ctypes.c_void_p(self.positions.ctypes.data)
        self.actions_address = ctypes.c_void_p(self.actions.ctypes.data)


class BattleWorld:
    """A match between two packs of six; the same seed and actions give the same match.

    Arrays returned by `observations`, `slots` and `positions` are views of buffers that the
    next `step` or `reset` overwrites; what `step` returns is a copy.
    """

    def __init__(self) -> None:
        self._env = gridworld.GridWorld(_config())
        self._game = self._env.game
        self._starts = _start_squares()
        self._teams = tuple(_Team(handle) for handle in self._env.get_handles())
        self._done = ctypes.c_int32()
        self.steps = 0
        self.over = True

    def reset(self, seed: int) -> None:
        """Starts a new match; `seed` in [0, 2**31) fixes the order of attacks."""
        if not 0 <= seed < 2**31:
            msg = f"seed must be in [0, 2**31); got {seed}"
            raise ValueError(msg)
        self._env.set_seed(seed)
        self._env.reset()
        for team, squares in zip(self._teams, self._starts, strict=True):
            self._env.add_agents(team.handle, method="custom", pos=squares)
            team.n = PACK_SIZE
        self.steps = 0
        self.over = False
        self._read()

    def alive(self, team: int) -> int:
        """How many of the team stand."""
        return self._teams[team].n

    def observations(self, team: int) -> NDArray[np.float32]:
        """f32[n, 845], one row for each standing agent: y, x, channel in C order."""
        side = self._teams[team]
        return side.views[: side.n]

    def slots(self, team: int) -> NDArray[np.int32]:
        """i32[n], the place in the pack (0 to 5) of each standing agent, rising."""
        side = self._teams[team]
        return side.ids[: side.n] - team * PACK_SIZE

    def positions(self, team: int) -> NDArray[np.int32]:
        """i32[n, 2], the (x, y) of each standing agent."""
        side = self._teams[team]
        return side.positions[: side.n]

    def step(
        self, red: NDArray[np.integer[Any]], blue: NDArray[np.integer[Any]]
    ) -> tuple[Acted, Acted]:
        """Carries out one action for every standing agent, in the order of `slots`.

        Raises ValueError when the match is over, for a wrong number of actions and for an
        action outside [0, 21).
        """
        if self.over:
            msg = "match must be running; got a step after its end (call reset first)"
            raise ValueError(msg)
        for side, actions in zip(self._teams, (red, blue), strict=True):
            if actions.shape != (side.n,):
                msg = f"actions must be one for each of {side.n} agents; got {actions.shape}"
                raise ValueError(msg)
            if not _ACTIONS.issuperset(actions.tolist()):  # faster than numpy on six numbers
                msg = f"actions must be in [0, {N_ACTIONS}); got {actions.tolist()}"
                raise ValueError(msg)
            side.actions[: side.n] = actions
            _LIB.env_set_action(self._game, side.handle, side.actions_address)
        _LIB.env_step(self._game, ctypes.byref(self._done))
        self.steps += 1
        acted = (self._acted(RED), self._acted(BLUE))
        _LIB.gridworld_clear_dead(self._game)
        for side, what in zip(self._teams, acted, strict=True):
            side.n = int(np.count_nonzero(what.alive))
        self.over = bool(self._done.value) or self.steps >= MAX_CYCLES
        self._read()
        return acted

    def won_by(self) -> int | None:
        """The team with more agents standing; None while equal."""
        red, blue = self._teams[RED].n, self._teams[BLUE].n
        return None if red == blue else (RED if red > blue else BLUE)

    def result(self, team: int) -> Result:
        """The match as it stands, seen from the team: more agents standing wins."""
        winner = self.won_by()
        if winner is None:
            return "draw"
        return "won" if winner == team else "lost"

    @property
    def annihilated(self) -> bool:
        """Whether one pack is gone, so that the match ended by itself and not by its length."""
        return any(side.n == 0 for side in self._teams)

    def _acted(self, team: int) -> Acted:
        side = self._teams[team]
        n = side.n
        before = side.positions[:n].copy()
        _LIB.env_get_reward(self._game, side.handle, side.rewards_address)
        _LIB.env_get_info(self._game, side.handle, b"alive", side.alive_address)
        _LIB.env_get_info(self._game, side.handle, b"pos", side.positions_address)
        moved = side.positions[:n] != before
        return Acted(
            slots=side.ids[:n] - np.int32(team * PACK_SIZE),
            rewards=side.rewards[:n].copy(),
            alive=side.alive[:n].copy(),
            moved=(moved[:, 0] | moved[:, 1]),
        )

    def _read(self) -> None:
        for side in self._teams:
            if side.n:
                _LIB.env_get_observation(self._game, side.handle, side.observation_address)
                _LIB.env_get_info(self._game, side.handle, b"id", side.ids_address)
                _LIB.env_get_info(self._game, side.handle, b"pos", side.positions_address)
