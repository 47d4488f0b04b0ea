"""Scripted play with exploration as rows to learn from: a bootstrap without a log."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from games.arena import rules
from games.arena.practice import ArenaPractice, survived
from games.arena.rewards import rewards
from games.arena.scripted import combat_odds, scripted
from games.arena.sight import Flags, Floats, Ints
from games.arena.view import Scenes, draw, enemy_facts, observe, patch_of, scenes
from games.arena.world import Arena, Orders
from schemas.practice import ARCHETYPES, Episodes, Head

P = rules.PACK
SAMPLES: Final = 10_000
EPSILON: Final = 0.2
"""Share of the choices of each head that are drawn among all legal ones."""
AIM_WIDTH: Final = 0.5
"""Half the width of the square about the script's aim that the other aims are drawn from."""
_HEADS: Final[tuple[Head, ...]] = ("combat", "movement", "skill")
_ROWS_A_MATCH: Final = 100
"""About the least that a match brings, to guess how many are needed."""


class Explored(NamedTuple):
    """Orders of a side that explores, and how likely they were."""

    orders: Orders
    chance: dict[Head, Floats]
    """[5, W] by head, a density for "aim"."""
    legal: dict[Head, Flags]
    """[A, 5, W] by head of choices."""
    odds: dict[Head, Floats]
    """[A, 5, W]: the whole distribution."""
    strayed: dict[Head, Flags]
    """[5, W]: whether exploration overruled the script."""


def explored(
    arena: Arena, degree: Ints, epsilon: float, rng: np.random.Generator, side: int = 0
) -> Explored:
    """Return what both sides do where one of them strays from the script now and then."""
    own = scripted(arena, degree)
    odds = {"combat": combat_odds(arena, degree)[:, side]}
    found: dict[Head, Any] = {}
    chance: dict[Head, Floats] = {}
    legals: dict[Head, Flags] = {}
    tables: dict[Head, Floats] = {}
    strayed: dict[Head, Flags] = {}
    index = np.indices((P, arena.n))
    for head, choice in zip(_HEADS, own[:3], strict=True):
        legal = arena.legal(head)[:, side]
        uniform = legal / legal.sum(axis=0)
        draws = rng.random((2, P, arena.n))
        stray = draws[0] < epsilon
        drawn = np.minimum((uniform.cumsum(axis=0) <= draws[1]).sum(axis=0), len(legal) - 1)
        drawn = np.where(legal[drawn, *index], drawn, legal.argmax(axis=0))
        base = odds.get(head)
        if base is None:
            base = (np.arange(len(legal))[:, None, None] == choice[side]).astype(np.float32)
        table = (epsilon * uniform + (1.0 - epsilon) * base).astype(np.float32)
        taken = np.where(stray, drawn, choice[side])
        choice = choice.copy()
        choice[side] = taken
        found[head], legals[head], tables[head], strayed[head] = choice, legal, table, stray
        chance[head] = table[taken, *index]
    aim, chance["aim"], strayed["aim"] = explored_aim(own.aim, epsilon, rng, side)
    orders = Orders(found["combat"], found["movement"], found["skill"], aim)
    return Explored(orders, chance, legals, tables, strayed)


def explored_aim(
    own: Floats, epsilon: float, rng: np.random.Generator, side: int
) -> tuple[Floats, Floats, Flags]:
    """Return aims of all, their density and whether they strayed, [5, W], of one side.

    They come from anywhere, or from a square about the script's own aim.
    """
    centre = np.clip(own[:, side], AIM_WIDTH - 1.0, 1.0 - AIM_WIDTH)
    stray = rng.random(centre.shape[1:]) < epsilon
    spread = 2.0 * rng.random(centre.shape) - 1.0
    taken = np.where(stray, spread, centre + AIM_WIDTH * spread).astype(np.float32)
    near = (np.abs(taken - centre) <= AIM_WIDTH).all(axis=0)
    density = epsilon / 4.0 + (1.0 - epsilon) * near / (2.0 * AIM_WIDTH) ** 2
    aim = own.copy()
    aim[:, side] = taken
    return aim, density.astype(np.float32), stray


def episodes(
    practice: ArenaPractice,
    n_rows: int = SAMPLES,
    seed: int = 0,
    *,
    epsilon: float = EPSILON,
    difficulty: int = 2,
    maps: bool = False,
) -> dict[str, Episodes]:
    """Return `n_rows` rows of each archetype of the practice's.

    Home plays the script and strays from it with `epsilon`, in every head by itself; away plays it
    as it is, and is an archetype after the other, match by match. The last actor's episode may be
    cut off; it then ends truncated.

    Args:
        practice: whose archetypes are recorded; its own matches are not touched.
        n_rows: of each archetype.
        seed: the rows are a function of it and of the other arguments.
        epsilon: share of choices drawn among all legal ones.
        difficulty: of the other side, 0 to 4.
        maps: whether rows hold their maps, 6 KiB each.

    Raises:
        ValueError: an argument is out of range.
    """
    if n_rows < 1:
        msg = f"n_rows must be at least 1; got {n_rows}"
        raise ValueError(msg)
    if not 0.0 <= epsilon <= 1.0:
        msg = f"epsilon must be in [0, 1]; got {epsilon}"
        raise ValueError(msg)
    found: dict[str, Episodes] = {}
    for name in practice.archetypes:
        parts: list[dict[str, Any]] = []
        first = 0
        while sum(len(part["reward"]) for part in parts) < n_rows:
            n = min(max(1, -(-n_rows // _ROWS_A_MATCH)), 128)
            parts.append(_batch(name, n, first, seed, epsilon, difficulty))
            first += n
        found[name] = _as_episodes(parts, n_rows, maps)
    return found


def _batch(
    name: str, n: int, first: int, seed: int, epsilon: float, difficulty: int
) -> dict[str, Any]:
    """Play n whole matches; columns of rows in order of (match, actor, step)."""
    world = ArenaPractice([name], opponents=ARCHETYPES)
    world.start("combat", n, seed, difficulty, first=first)
    arena = world.arena
    # Exploration has draws of its own for each batch; matches have theirs by their seeds.
    rng = np.random.default_rng([seed, ARCHETYPES.index(name), first])
    rows: list[dict[str, Any]] = []
    while not arena.over.all():
        rows.append(_step(arena, world.degree, epsilon, rng))
    columns = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    columns["match"] += first
    order = np.lexsort((columns["step"], columns["actor"], columns["match"]))
    columns = {key: column[order] for key, column in columns.items()}
    same = (np.diff(columns["match"]) == 0) & (np.diff(columns["actor"]) == 0)
    columns["first"] = np.concatenate([[True], ~same])
    columns["target"] = later(columns.pop("patch"), columns["first"])
    return columns


def _step(
    arena: Arena, degree: Ints, epsilon: float, rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Take a step; rows of home's living actors in matches that go on, [N, ...] each."""
    alive = arena.alive[0] & ~arena.over
    on = alive.T
    match, slot = np.nonzero(on)
    before = {
        "observation": observe(arena, 0)[on],
        "enemies": enemy_facts(arena, 0)[on],
        "match": match,
        "actor": slot,
        "step": arena.step_no[match],
        "enemy_kind": arena.kind[1, 0, match],
        **_scene_rows(scenes(arena, 0), match),
    }
    done = explored(arena, degree, epsilon, rng)
    orders = done.orders
    facts = arena.step(orders)
    facts["survived"] = survived(arena)
    died = alive & ~arena.alive[0]
    decided, over = arena.decided, arena.over
    terminated = (died | decided) & alive
    reward = rewards({name: fact[0] for name, fact in facts.items()}, arena.kind[0])
    threat = arena.dealt[1] / arena.stat["hit_points"][0, 0]
    after = observe(arena, 0)[on]
    after[terminated.T[on]] = 0.0
    for head, choice in zip(_HEADS, orders[:3], strict=True):
        before[f"action.{head}"] = choice[0].T[on]
        before[f"legal.{head}"] = np.ascontiguousarray(done.legal[head].transpose(2, 1, 0)[on])
    for head, chance in done.chance.items():
        before[f"propensity.{head}"] = chance.T[on]
    turn = arena.turn[0, 0, 0]
    return before | {
        "next_observation": after,
        "aim": np.ascontiguousarray(orders.aim[:, 0].transpose(2, 1, 0)[on]),
        "reward": reward.T[on],
        "terminated": terminated.T[on],
        "truncated": (over & ~decided & arena.alive[0]).T[on],
        "threat": threat.T[match],
        "patch": patch_of(turn * arena.x[0], turn * arena.y[0]).T[on],
    }


def _scene_rows(scene: Scenes, match: Ints) -> dict[str, NDArray[Any]]:
    """What a row's map is drawn from, rows first."""
    parts = zip(Scenes._fields, scene, strict=True)
    return {f"scene.{name}": np.moveaxis(part, -1, 0)[match] for name, part in parts}


def later(patch: Ints, first: Flags) -> Ints:
    """Return where each row's actor stands 8 steps later, or at its episode's end if that is first.

    `patch` is where it stands after the row's step.
    """
    n = len(patch)
    episode = np.cumsum(first)
    last = np.searchsorted(episode, episode, side="right") - 1
    return patch[np.minimum(np.arange(n) + rules.LOOK_AHEAD - 1, last)]


def _as_episodes(parts: list[dict[str, Any]], n_rows: int, maps: bool) -> Episodes:
    columns = {key: np.concatenate([part[key] for part in parts])[:n_rows] for key in parts[0]}
    scene = Scenes(*(np.moveaxis(columns.pop(f"scene.{name}"), 0, -1) for name in Scenes._fields))
    if not columns["terminated"][-1]:
        columns["truncated"][-1] = True
    heads: tuple[Head, ...] = (*_HEADS, "aim")
    n = len(columns["reward"])
    return Episodes(
        observation=columns["observation"],
        next_observation=columns["next_observation"],
        action={head: columns[f"action.{head}"] for head in _HEADS},
        aim=columns["aim"],
        legal={head: columns[f"legal.{head}"] for head in _HEADS},
        propensity={head: columns[f"propensity.{head}"] for head in heads},
        policy_version=np.zeros(n, np.int64),
        reward=columns["reward"],
        terminated=columns["terminated"],
        truncated=columns["truncated"],
        first=columns["first"],
        actor=columns["actor"],
        match=columns["match"],
        step=columns["step"],
        enemies=columns["enemies"],
        threat=columns["threat"],
        enemy_kind=columns["enemy_kind"],
        maps=draw(scene, columns["actor"]) if maps else None,
        target=columns["target"],
    )
