"""Settled decisions of the arena, as windows hold them, as rows to learn from.

A step of an actor is four decisions; here they are one row again. What an observation does not say
(mana of enemies, who hurts whom) is told in the details of the combat decision.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from games.arena import rules
from games.arena.events import Details
from games.arena.record import later
from games.arena.rule import HEADS, action_slice
from games.arena.sight import Flags, Floats, Ints
from games.arena.view import N_ENEMY, Scenes, draw, patch_of
from schemas.practice import ARCHETYPES, Episodes, Head
from schemas.records import Experience

P = rules.PACK
_CHOSEN: Final[tuple[Head, ...]] = ("combat", "movement", "skill")
_VERSION: Final = re.compile(r"v(\d+)")
_TOLD: Final = ("place", "mana", "dealt", "strikes", "rallied")
_HALF: Final = np.float32(rules.HALF)


def enemy_details(kind: str, order: Ints, facts: Floats) -> Details:
    """Return what a combat decision tells of its enemies beside the observation.

    Args:
        kind: archetype of the enemies' pack.
        order: i64[5], slots in the order of the observation.
        facts: f32[5, 12] by slot, of `games.arena.view.enemy_facts`.
    """
    told: Details = {"enemies": kind}
    places = np.argsort(order)
    for slot in np.flatnonzero(facts[:, 2] > 0).tolist():
        _, _, _, _, mana, _, _, dealt, _, strikes, rallied, _ = facts[slot].tolist()
        numbers = (int(places[slot]), mana, dealt, bool(strikes), bool(rallied))
        told |= {_name(slot, what): v for what, v in zip(_TOLD, numbers, strict=True)}
    return told


def step_details(dealt: Floats, x: float, y: float) -> Details:
    """Return what a combat decision's outcome tells beside its facts.

    Args:
        dealt: f32[5], damage that each enemy did in the step.
        x: where the actor is after it, own frame.
        y: the same.
    """
    hurt = {_name(slot, "dealt"): value for slot, value in enumerate(dealt.tolist())}
    return {"x": x, "y": y, **hurt}


def _name(slot: int, what: str) -> str:
    return f"enemy_{slot}_{what}"


class _Row(NamedTuple):
    match: str
    slot: int
    heads: Mapping[Head, Experience]

    @property
    def combat(self) -> Experience:
        return self.heads["combat"]


def rows_of(told: Iterable[Experience], maps: bool = False) -> Episodes:
    """Return the steps that are whole: decided, rewarded and followed in all four heads.

    An actor's episode that lacks a step is two; the first of them ends truncated there. Matches are
    numbered by the time of their first decision.

    Args:
        told: decisions of one archetype, in any order; of one that was revised the newest counts.
        maps: whether rows hold their maps. Of the own pack those are drawn that are told of.

    Raises:
        ValueError: decisions are of several archetypes, or no step is whole.
    """
    rows, number = _joined(told)
    if not rows:
        msg = "decisions must be of whole steps, all four heads settled; got none"
        raise ValueError(msg)
    if len(kinds := {row.combat.archetype for row in rows}) > 1:
        msg = f"decisions must be of one archetype; got {', '.join(sorted(kinds))}"
        raise ValueError(msg)
    combat = [row.combat for row in rows]
    match, slot = _ints(number[row.match] for row in rows), _ints(row.slot for row in rows)
    step = _ints(row.step for row in combat)
    on = (np.diff(match) == 0) & (np.diff(slot) == 0) & (np.diff(step) == 1)
    first = np.concatenate([[True], ~on])
    terminated = np.array([row.terminated for row in combat])
    truncated = np.array([row.truncated for row in combat]) & ~terminated
    truncated |= np.concatenate([~on, [True]]) & ~terminated
    seen = _vectors([row.observation for row in combat])
    following = _vectors([row.next_observation or bytes(4 * rules.FEATURES) for row in combat])
    following[terminated] = 0.0
    enemies = _enemies(combat, seen)
    where = _outcome_numbers(combat, ("x", "y"))
    dealt = _outcome_numbers(combat, [_name(k, "dealt") for k in range(P)])
    scenes = _scenes(match, slot, step, seen, enemies) if maps else None
    return Episodes(
        observation=seen,
        next_observation=following,
        action={head: _actions(rows, head) for head in _CHOSEN},
        aim=np.clip(_vectors([row.heads["aim"].continuous or b"" for row in rows]), -1.0, 1.0),
        legal={head: _masks(rows, head) for head in _CHOSEN},
        propensity={
            head: np.array([row.heads[head].propensity for row in rows], np.float32)
            for head in HEADS
        },
        policy_version=_ints(_version(row) for row in combat),
        reward=np.array([row.total for row in combat], np.float32),
        terminated=terminated,
        truncated=truncated,
        first=first,
        actor=slot,
        match=match,
        step=step,
        enemies=enemies,
        threat=dealt / np.float32(rules.KINDS["hit_points"][_kind(combat[0].archetype)]),
        enemy_kind=_ints(_kind(str((row.details or {})["enemies"])) for row in combat),
        maps=None if scenes is None else draw(scenes, slot),
        target=later(patch_of(where[:, 0], where[:, 1]), first),
    )


def _joined(told: Iterable[Experience]) -> tuple[list[_Row], dict[str, int]]:
    """Steps that are whole, in order, and the numbers of their matches."""
    found: dict[tuple[str, str, int], dict[Head, Experience]] = {}
    for row in told:
        heads = found.setdefault((row.episode.rpartition("-")[0], row.actor_id, row.step), {})
        head: Head = row.domain  # type: ignore[assignment]
        if head not in heads or heads[head].revision < row.revision:
            heads[head] = row
    rows = [
        _Row(match, int(actor.rpartition("/")[2]), heads)
        for (match, actor, _), heads in found.items()
        if _is_whole(heads)
    ]
    began: dict[str, int] = {}
    for whole in rows:
        time_ms = whole.combat.decision_time_ms
        began[whole.match] = min(began.get(whole.match, time_ms), time_ms)
    ordered = sorted(began, key=lambda match: (began[match], match))
    number = {match: k for k, match in enumerate(ordered)}
    rows.sort(key=lambda row: (number[row.match], row.slot, row.combat.step))
    return rows, number


def _is_whole(heads: Mapping[Head, Experience]) -> bool:
    if len(heads) < len(HEADS) or any(row.status == "censored" for row in heads.values()):
        return False
    combat = heads["combat"]
    told = combat.details is not None and "enemies" in combat.details
    known = combat.outcome_details is not None and "x" in combat.outcome_details
    return told and known and (combat.terminated or combat.next_observation is not None)


def _enemies(rows: Sequence[Experience], seen: Floats) -> Floats:
    """f32[N, 5, 12]: `games.arena.view.enemy_facts` from what was told."""
    told = np.full((len(rows), P, len(_TOLD)), -1.0, np.float32)
    for i, row in enumerate(rows):
        details = row.details or {}
        for slot in range(P):
            if _name(slot, "place") in details:
                told[i, slot] = [float(details[_name(slot, what)]) for what in _TOLD]
    there = told[:, :, 0] >= 0
    place = np.maximum(told[:, :, 0], 0).astype(np.int64)
    block = seen[:, 20:50].reshape(len(rows), P, 6)
    block = np.take_along_axis(block, place[:, :, None], axis=1)
    way_x, way_y = block[:, :, 0] * _HALF, block[:, :, 1] * _HALF
    distance = np.sqrt(way_x * way_x + way_y * way_y)
    kinds = [_kind(str((row.details or {})["enemies"])) for row in rows]
    reach = np.array(rules.KINDS["reach"], np.float32)[kinds][:, None]
    facts = np.empty((len(rows), P, N_ENEMY), np.float32)
    facts[:, :, 0:2], facts[:, :, 2] = block[:, :, 0:2], distance / _HALF
    facts[:, :, 3], facts[:, :, 4] = block[:, :, 2], told[:, :, 1]
    facts[:, :, 5:7], facts[:, :, 7] = block[:, :, 3:5], told[:, :, 2]
    facts[:, :, 8], facts[:, :, 9:11] = distance <= reach, told[:, :, 3:5]
    facts[:, :, 11] = _on_hill(seen, way_x, way_y)
    facts *= there[:, :, None]
    return facts


def _on_hill(seen: Floats, way_x: Floats, way_y: Floats) -> Flags:
    """[N, 5]: whether who stands there stands on a hill."""
    hill_x, hill_y = _nearest_hill(seen)
    x, y = seen[:, 2:3] * _HALF + way_x, seen[:, 3:4] * _HALF + way_y
    on = np.zeros(x.shape, np.bool_)
    for sign in (1, -1):  # the other hill is the first turned by half a circle
        off_x, off_y = x - sign * hill_x[:, None], y - sign * hill_y[:, None]
        on |= off_x * off_x + off_y * off_y <= rules.HILL_RADIUS**2
    return on


def _nearest_hill(seen: Floats) -> tuple[Floats, Floats]:
    """[N] each, own frame."""
    return (seen[:, 2] + seen[:, 18]) * _HALF, (seen[:, 3] + seen[:, 19]) * _HALF


def _scenes(match: Ints, slot: Ints, step: Ints, seen: Floats, enemies: Floats) -> Scenes:
    """Return what the maps are drawn from; each row's pack is put together from its rows."""
    _, group = np.unique(np.stack([match, step]), axis=1, return_inverse=True)
    group = group.ravel()
    place = np.zeros((3, 2, P, len(seen)), np.float32)
    pack = np.zeros((3, P, group.max() + 1), np.float32)
    pack[0][slot, group], pack[1][slot, group] = seen[:, 2] * _HALF, seen[:, 3] * _HALF
    pack[2][slot, group] = seen[:, 0]
    place[:, 0] = pack[:, :, group]
    place[0, 1] = ((seen[:, 2:3] + enemies[:, :, 0]) * _HALF).T
    place[1, 1] = ((seen[:, 3:4] + enemies[:, :, 1]) * _HALF).T
    place[2, 1] = enemies[:, :, 3].T
    hill = np.stack(_nearest_hill(seen))
    return Scenes(place[0], place[1], place[2], np.stack([hill, -hill]))


def _actions(rows: Sequence[_Row], head: Head) -> Ints:
    return _ints(row.heads[head].action - rules.FIRST[head] for row in rows)


def _masks(rows: Sequence[_Row], head: Head) -> Flags:
    """[N, A]."""
    every = bytes([1]) * len(rules.ACTION_NAMES)
    told = [row.heads[head].legal or every for row in rows]
    masks = np.frombuffer(b"".join(told), np.uint8).reshape(len(rows), -1)
    return masks[:, action_slice(head)].astype(np.bool_)


def _outcome_numbers(rows: Sequence[Experience], names: Sequence[str]) -> Floats:
    """f32[N, names]."""
    told = ([float((row.outcome_details or {})[name]) for name in names] for row in rows)
    return np.array(list(told), np.float32)


def _version(row: Experience) -> int:
    """Return the number of a version; 0 is the script, and whatever else has none."""
    said = str((row.details or {}).get("policy_version", row.policy_version))
    found = _VERSION.search(said)
    return int(found.group(1)) if found else 0


def _kind(archetype: str) -> int:
    return ARCHETYPES.index(archetype)


def _vectors(told: Sequence[bytes]) -> Floats:
    """f32[N, D]."""
    return np.frombuffer(b"".join(told), "<f4").astype(np.float32).reshape(len(told), -1)


def _ints(values: Iterable[Any]) -> NDArray[np.int64]:
    return np.fromiter(values, np.int64)
