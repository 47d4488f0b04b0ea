"""What one side's actors see: 64 numbers, facts of each enemy, and maps."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from games.arena import rules
from games.arena.blows import marks
from games.arena.sight import Floats
from games.arena.world import Arena

P = rules.PACK
N_ENEMY: Final = 12
"""dx, dy, distance, hit points, mana, vx, vy, damage dealt in the last step, whether one is in its
reach, whether it struck at one, whether it is rallied, whether it stands on a hill."""
_HALF: Final = np.float32(rules.HALF)


def observe(arena: Arena, side: int) -> Floats:
    """f32[W, 5, 64]: what a side's actors see; zeros for the dead. Places are in their frame."""
    seen = np.empty((rules.FEATURES, P, arena.n), np.float32)
    _own(arena, side, seen)
    _enemies(arena, side, seen)
    _pack(arena, side, seen)
    seen *= arena.alive[side]
    return np.ascontiguousarray(seen.transpose(2, 1, 0))


def _own(arena: Arena, side: int, seen: Floats) -> None:
    sight, turn, stat = arena.sight(), arena.turn[side], arena.stat
    x, y = arena.x[side], arena.y[side]
    seen[0] = arena.hp[side] / stat["hit_points"][side]
    seen[1] = arena.mana[side] / stat["mana"][side]
    seen[2], seen[3] = turn * x / _HALF, turn * y / _HALF
    seen[4], seen[5] = turn * arena.vx[side], turn * arena.vy[side]
    seen[6] = sight.on_hill[side]
    seen[7] = arena.ward[side] / np.float32(rules.WARD_HOLDS)
    seen[8] = arena.rally[side] / rules.RALLY_STEPS
    seen[9] = arena.snare[side] / rules.SNARE_STEPS
    seen[10] = arena.aggro[side] / np.float32(8.0)
    seen[11], seen[12] = arena.dealt[side] / np.float32(20), arena.taken[side] / np.float32(20)
    seen[13:15] = np.stack([arena.alive[side], arena.alive[1 - side]]).sum(axis=1)[:, None] / P
    seen[15] = arena.step_no / rules.LIMIT
    gale_x, gale_y = arena.gale()
    seen[16], seen[17] = gale_x[side], gale_y[side]
    hx, hy = arena.hill[:, 0, None] - x, arena.hill[:, 1, None] - y
    first = hx[0] ** 2 + hy[0] ** 2 <= hx[1] ** 2 + hy[1] ** 2
    seen[18] = turn * np.where(first, hx[0], hx[1]) / _HALF
    seen[19] = turn * np.where(first, hy[0], hy[1]) / _HALF


def _enemies(arena: Arena, side: int, seen: Floats) -> None:
    """Six numbers for each enemy, the nearest first: dx, dy, hit points, vx, vy, in reach."""
    sight, turn = arena.sight(), arena.turn[side]
    order = sight.order[side]
    place = order * arena.n + np.arange(arena.n)
    alive = arena.alive[1 - side].ravel()[place]
    share = arena.hp[1 - side] / arena.stat["hit_points"][1 - side]
    pairs = order * arena.n + (np.arange(P) * P * arena.n)[:, None, None] + np.arange(arena.n)
    block = seen[20:50].reshape(P, 6, P, arena.n)
    columns = (
        sight.dx[side].ravel()[pairs] / _HALF,
        sight.dy[side].ravel()[pairs] / _HALF,
        share.ravel()[place],
        turn * arena.vx[1 - side].ravel()[place],
        turn * arena.vy[1 - side].ravel()[place],
        sight.in_reach[side].ravel()[pairs],
    )
    for k, column in enumerate(columns):
        block[:, k] = (column * alive).transpose(1, 0, 2)


def _pack(arena: Arena, side: int, seen: Floats) -> None:
    turn, alive = arena.turn[side], arena.alive[side]
    x, y = arena.x[side], arena.y[side]
    hurt = np.minimum(marks(arena).hurt[side], P - 1) * arena.n + np.arange(arena.n)
    share = arena.hp[side] / arena.stat["hit_points"][side]
    seen[50] = turn * (x.ravel()[hurt] - x) / _HALF
    seen[51] = turn * (y.ravel()[hurt] - y) / _HALF
    seen[52] = share.ravel()[hurt]
    count = np.maximum(alive.sum(axis=0), 1)
    seen[53] = turn * ((x * alive).sum(axis=0) / count - x) / _HALF
    seen[54] = turn * ((y * alive).sum(axis=0) / count - y) / _HALF
    seen[55] = arena.beset[side] / P
    seen[56] = arena.sight().in_reach[side].sum(axis=1) / P
    seen[57:64] = arena.legal("skill")[1:, side]


def enemy_facts(arena: Arena, side: int) -> Floats:
    """f32[W, 5, 5, 12]: what an actor knows of each enemy, in the order of slots."""
    sight, turn, other = arena.sight(), arena.turn[side], 1 - side
    facts = np.empty((N_ENEMY, P, P, arena.n), np.float32)
    facts[0], facts[1] = sight.dx[side] / _HALF, sight.dy[side] / _HALF
    facts[2] = sight.dist[side] / _HALF
    of_enemy = (
        arena.hp[other] / arena.stat["hit_points"][other],
        arena.mana[other] / arena.stat["mana"][other],
        turn * arena.vx[other],
        turn * arena.vy[other],
        arena.dealt[other] / np.float32(20),
    )
    for k, column in enumerate(of_enemy, start=3):
        facts[k] = column[None]
    facts[8] = sight.dist[side] <= arena.stat["reach"][other][None]
    facts[9] = arena.target[other][None] == np.arange(P)[:, None, None]
    facts[10] = (arena.rally[other] > 0)[None]
    facts[11] = sight.on_hill[other][None]
    facts *= arena.alive[other][None] & arena.alive[side][:, None]
    return np.ascontiguousarray(facts.transpose(3, 1, 2, 0))


class Scenes(NamedTuple):
    """Fields to draw, N of them, in the frame of the side whose actor looks."""

    x: Floats
    """[2, 5, N]: the own pack's first, then the enemy's."""
    y: Floats
    share: Floats
    """[2, 5, N]: hit points; 0 for the dead."""
    hills: Floats
    """[2, (x, y), N]."""


def scenes(arena: Arena, side: int) -> Scenes:
    """Return the fields of all matches as a side sees them; copies."""
    own = slice(None, None, -1) if side else slice(None)
    turn = arena.turn[side, 0, 0]
    share = np.maximum(arena.hp / arena.stat["hit_points"], 0.0)
    return Scenes(turn * arena.x[own], turn * arena.y[own], share[own].copy(), turn * arena.hill)


def draw(scene: Scenes, slot: NDArray[np.int64]) -> NDArray[np.uint8]:
    """u8[N, C, 32, 32]: maps for the actor of the own pack that `slot` i64[N] names."""
    n, size = len(slot), rules.MAP_SIZE
    maps = np.zeros((n, rules.MAP_CHANNELS, size, size), np.uint8)
    centre = np.arange(size, dtype=np.float32) - _HALF + np.float32(0.5)
    for hill in scene.hills:
        dx2 = np.square(centre - hill[0][:, None])[:, None, :]
        dy2 = np.square(centre - hill[1][:, None])[:, :, None]
        maps[:, 0] |= np.where(dx2 + dy2 <= rules.HILL_RADIUS**2, 255, 0).astype(np.uint8)
    row, column = pixels(scene.x, scene.y)
    strength = (55 + 200 * scene.share).astype(np.uint8)
    for side in (0, 1):
        who, where = np.nonzero(scene.share[side] > 0)
        at = row[side, who, where], column[side, who, where]
        maps[where, 1 + side, at[0], at[1]] = 255
        maps[where, 4 + side, at[0], at[1]] = strength[side, who, where]
    every = np.arange(n)
    maps[every, 3, row[0, slot, every], column[0, slot, every]] = 255
    return maps


def pixels(x: Floats, y: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of the map that places lie on."""
    top = rules.MAP_SIZE - 1
    row, column = (np.clip(np.floor(p + _HALF), 0, top).astype(np.int64) for p in (y, x))
    return row, column


def patch_of(x: Floats, y: Floats) -> NDArray[np.int64]:
    """Return the patch of 8 x 8 pixels that places lie in, row by row."""
    row, column = pixels(x, y)
    return row // rules.PATCH * (rules.MAP_SIZE // rules.PATCH) + column // rules.PATCH
