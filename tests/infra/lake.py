"""A seeded log of duels, folded in memory, and its archive, for tests of what analysts ask."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.codec import encode_pack
from schemas.events import Event, Tick
from schemas.game import Game, parse_game
from schemas.records import Experience, Row, Window, WindowRule
from streams.archiver.files import store_window
from streams.archiver.store import ArchiveStore
from streams.archiver.windows import WindowFold
from streams.engine.records import Record
from tests.agents.log import Run, decision, outcome, snapshot

START_MS = 1_700_000_000_000
STEP_MS = 100


DUELS = """
game = "duel"
[observation]
layout = "duel@1"
shape = [2]
[actions]
names = ["wait", "hit", "run"]
[rewards."duel@1"]
weights = { hits = 0.5, losses = -0.25 }
[rewards."duel@2"]
weights = { hits = 0.5, losses = -0.75 }
[rewards."other@1"]
weights = { hits = 1.0 }
[domains.combat]
reward = "duel@1"
horizon_ms = 1000
standing = "standing"
standing_unit = 10.0
long_term_weight = 0.5
outcome_timeout_ms = 1000
[archetypes.fighter]
model = "duel-fighter"
[archetypes.guard]
model = "guard"
[time]
allowed_lateness_ms = 100
"""


def duels(**domain: Any) -> Game:
    """Two archetypes, a standing, versions of a reward; a horizon of one second."""
    document = tomllib.loads(DUELS)
    document["domains"]["combat"] |= domain
    return parse_game(document)


def events(n_steps: int, actor: str, archetype: str, seed: int) -> list[Event]:
    """Decisions of an actor with their outcomes and standings; every ninth has no outcome."""
    draw = np.random.default_rng(seed)
    standing = 50.0
    found: list[Event] = []
    for step in range(n_steps):
        at = START_MS + step * STEP_MS
        found.append(decision(step, at, actor, archetype=archetype, facts={"standing": standing}))
        hits, losses = float(draw.integers(0, 3)), float(draw.integers(0, 2))
        if step % 9 != 8:
            facts = {"hits": hits, "losses": losses}
            found.append(outcome(step, at + 10, actor, facts=facts, success=hits > losses))
        standing += hits - 2 * losses
        found.append(snapshot(at + 20, standing, actor))
    return found


def log_of(n_steps: int = 60, seed: int = 1, actors: str = "ab") -> list[Record]:
    """The log of one partition: two actors in packs of ten steps, ticks between and after."""
    sides = [(actors[0], "fighter", seed), (actors[1], "guard", seed + 1)]
    told = [events(n_steps, actor, archetype, of) for actor, archetype, of in sides]
    values: list[tuple[int, bytes]] = []
    for lo in range(0, n_steps, 10):
        first, last = START_MS + lo * STEP_MS, START_MS + (lo + 10) * STEP_MS
        for side in told:
            pack = [e for e in side if first <= e.event_time_ms < last]
            values.append((last, encode_pack(pack)))
        values.append((last, encode_pack([Tick(event_time_ms=last, source="test")])))
    end = START_MS + n_steps * STEP_MS + 60_000
    values.append((end, encode_pack([Tick(event_time_ms=end, source="test")])))
    return [Record(0, i, at, None, value) for i, (at, value) in enumerate(values)]


def fold(log: Sequence[Record], game: Game) -> list[Row]:
    """The rows that follow from a log."""
    run = Run(game)
    run.feed(log)
    return run.rows


def archive(
    rows: Sequence[Row], game: Game, folder: Path, partition: int = 0, max_rows: int = 40
) -> list[Window]:
    """Write the windows of rows, the unsealed one too; return them."""
    store = ArchiveStore.open(str(folder))
    rule = WindowRule(max_rows=max_rows, max_span_ms=3_600_000)
    cut: WindowFold[Experience] = WindowFold(partition, lambda _: rule)
    sealed = [w for i, row in enumerate(rows) for w in cut.take(i, [row])] + cut.finish()
    return [store_window(store, window, game, "zstd") for window in sealed]
