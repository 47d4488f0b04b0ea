"""What a log tells of the arena, as rows to learn from: the same that the arena itself held."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from games.arena import rules
from games.arena.play import ArenaMatches
from games.arena.rewards import described
from games.arena.settings import arena_settings
from games.arena.view import draw, enemy_facts, observe, patch_of, scenes
from games.arena.windows import rows_of
from schemas.arrow import table_to_rows
from schemas.columns import rows_to_table
from schemas.events import ActorEvent
from schemas.practice import ARCHETYPES, Episodes
from schemas.records import Experience
from tests.agents.log import Run

STEP_MS, N_STEPS = 50, 130


class Held:
    """What the arena held, by (world, match, slot, step): before each step, and after it."""

    def __init__(self) -> None:
        self.before: dict[tuple[int, int, int, int], tuple[NDArray[np.generic], ...]] = {}
        self.patch: dict[tuple[int, int, int, int], int] = {}
        self.threat: dict[tuple[int, int, int, int], NDArray[np.float32]] = {}


def settled(events: list[list[ActorEvent]]) -> list[Experience]:
    run = Run(described())
    for told in events:
        for at in range(0, len(told), 400):
            run.take(told[at : at + 400])
    assert run.letters == []
    return run.experiences


@pytest.fixture(scope="module")
def played() -> tuple[Held, list[Experience]]:
    evenly = msgspec.structs.replace(arena_settings(described()), champion_worlds=0)
    matches, held, events = ArenaMatches(evenly, 7, "a1"), Held(), []
    arena, begun = matches._arena, np.zeros(12, np.int64)
    over = np.zeros(12, np.bool_)
    for k in range(N_STEPS):
        begun += over
        seen = (observe(arena, 0), enemy_facts(arena, 0), scenes(arena, 0))
        at = [
            (int(w), int(begun[w]), int(slot), int(arena.step_no[w]))
            for w, slot in np.argwhere(arena.alive[0].T)
            if not over[w]  # it is begun anew within the step
        ]
        for w, n, slot, step in at:
            one = type(seen[2])(*(part[..., w : w + 1] for part in seen[2]))
            picture = draw(one, np.array([slot]))[0]
            held.before[w, n, slot, step] = (seen[0][w, slot], seen[1][w, slot], picture)
        events.append(list(matches.step(10_000 + STEP_MS * k).events))
        share = arena.dealt[1] / arena.stat["hit_points"][0, 0]
        for place in at:
            w, _, slot, _ = place
            held.patch[place] = int(patch_of(arena.x[0, slot, w], arena.y[0, slot, w]))
            held.threat[place] = share[:, w].copy()
        over = arena.over
    rows = settled(events)
    table = rows_to_table(rows, rules.FEATURES, len(rules.ACTION_NAMES))
    return held, table_to_rows(table)


def of(rows: list[Experience], archetype: str) -> list[Experience]:
    return [row for row in rows if row.archetype == archetype]


def places(told: list[Experience], rows: Episodes) -> list[tuple[int, int, int, int]]:
    """The arena's places of rows, by the names of their matches."""
    names = sorted(
        {row.episode.rpartition("-")[0] for row in told},
        key=lambda name: (
            min(r.decision_time_ms for r in told if r.episode.rpartition("-")[0] == name),
            name,
        ),
    )
    where = [tuple(int(p[1:]) for p in name.split("-")[2:4]) for name in names]
    return [
        (*where[m], int(slot), int(step))
        for m, slot, step in zip(rows.match, rows.actor, rows.step, strict=True)
    ]


@pytest.mark.parametrize("archetype", ARCHETYPES)
def test_rows_are_what_the_arena_held(
    played: tuple[Held, list[Experience]], archetype: str
) -> None:
    held, everything = played
    told = of(everything, archetype)
    rows = rows_of(told, maps=True)
    assert len(rows) > 400
    assert rows.maps is not None
    assert set(rows.enemy_kind.tolist()) == {ARCHETYPES.index(archetype)}
    n_checked = 0
    last = np.append(np.flatnonzero(rows.first)[1:], len(rows)) - 1
    end = np.repeat(last, np.diff(np.append(np.flatnonzero(rows.first), len(rows))))
    at = places(told, rows)
    for i, place in enumerate(at):
        if place not in held.before:
            continue
        observation, enemies, picture = held.before[place]
        assert np.array_equal(rows.observation[i], observation)
        assert rows.enemies[i] == pytest.approx(enemies, abs=1e-6)
        assert (rows.maps[i] != picture).mean() < 3e-3  # a few stand on a pixel's edge
        assert rows.threat[i] == pytest.approx(held.threat[place], abs=1e-6)
        assert rows.target[i] == held.patch[at[min(i + rules.LOOK_AHEAD - 1, end[i])]]
        n_checked += 1
    assert n_checked > 400


def test_rows_are_unbroken_and_legal(played: tuple[Held, list[Experience]]) -> None:
    rows = rows_of(of(played[1], "mage"))
    every = np.arange(len(rows))
    for head in ("combat", "movement", "skill"):
        assert rows.legal[head].shape == (len(rows), rules.N_CHOICES[head])
        assert rows.legal[head][every, rows.action[head]].all()
    for head, chance in rows.propensity.items():
        assert (chance > 0).all(), head
    assert np.abs(rows.aim).max() <= 1.0
    ends = np.append(rows.first[1:], True)
    assert np.array_equal(ends, rows.terminated | rows.truncated)
    assert not (rows.terminated & rows.truncated).any()
    assert (rows.next_observation[rows.terminated] == 0).all()
    inner = np.flatnonzero(~ends)
    assert np.array_equal(rows.next_observation[inner], rows.observation[inner + 1])
    assert np.array_equal(rows.step[inner] + 1, rows.step[inner + 1])
    assert (rows.policy_version == 0).all()


def test_steps_that_are_not_whole_end_an_episode(played: tuple[Held, list[Experience]]) -> None:
    told = of(played[1], "tank")
    whole = rows_of(told)
    gone = next(row for row in told if row.step == 3 and row.domain == "skill")
    rows = rows_of([row for row in told if row is not gone])
    assert len(rows) == len(whole) - 1
    assert rows.first.sum() == whole.first.sum() + 1
    assert rows.truncated.sum() == whole.truncated.sum() + 1
    censored = msgspec.structs.replace(gone, status="censored")
    same = rows_of([censored if row is gone else row for row in told])
    assert np.array_equal(same.observation, rows.observation)


def test_versions_are_numbered_and_the_newest_revision_counts(
    played: tuple[Held, list[Experience]],
) -> None:
    told = of(played[1], "aggressive")
    newer = [msgspec.structs.replace(r, revision=1, total=0.25) for r in told if r.step == 2]
    acted = [msgspec.structs.replace(r, policy_version="v0012") for r in [*newer, *told]]
    rows = rows_of(acted)
    assert set(rows.policy_version.tolist()) == {12}
    assert (rows.reward[rows.step == 2] == np.float32(0.25)).all()


def test_what_cannot_be_rows_is_refused(played: tuple[Held, list[Experience]]) -> None:
    with pytest.raises(ValueError, match="decisions must be of whole steps"):
        rows_of([row for row in played[1] if row.domain != "aim"])
    with pytest.raises(ValueError, match="must be of one archetype; got aggressive, defensive"):
        rows_of([row for row in played[1] if row.archetype in ("defensive", "aggressive")])
