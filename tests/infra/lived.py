"""Live play of the arena, settled and in windows: what a log of it holds."""

from __future__ import annotations

import functools

import msgspec

from games.arena.play import ArenaMatches
from games.arena.rewards import described
from games.arena.settings import arena_settings
from schemas.events import Tick
from schemas.records import Row
from tests.agents.log import Run

N_STEPS, STEP_MS = 40, 50


@functools.cache
def settled() -> list[Row]:
    """Return the rows of 40 steps of scripted play, all archetypes alike."""
    evenly = msgspec.structs.replace(arena_settings(described()), champion_worlds=0)
    matches, run = ArenaMatches(evenly, 3, "w1"), Run(described())
    for k in range(N_STEPS):
        events = list(matches.step(10_000 + STEP_MS * k).events)
        for at in range(0, len(events), 400):
            run.take(events[at : at + 400])
    run.take(Tick(event_time_ms=10_000_000, source="test"))
    return run.rows
