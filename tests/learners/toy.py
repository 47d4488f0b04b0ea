"""A toy game whose best play is known, its rows and windows, for every test of learners."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from learners.settings import ModelSettings, Shape
from schemas.arrow import rows_digest
from schemas.columns import rows_to_table
from schemas.game import Learner
from schemas.records import Experience, Origin, Window, WindowFile, WindowRule

N_CELLS = 6
"""Cells 0..5 in a line; the walker starts somewhere and is paid 1 for reaching cell 5."""

LEFT, RIGHT, WALL = 0, 1, 2
N_ACTIONS = 3
SHAPE = Shape(observation=(N_CELLS,), n_actions=N_ACTIONS)


def learner(**changes: object) -> Learner:
    """Small settings that learn the toy game within a second or two."""
    values: dict[str, object] = {
        "network": "mlp",
        "hidden": [32],
        "discount": 0.9,
        "n_step": 2,
        "batch": 32,
        "learning_rate": 3e-3,
        "updates_per_row": 0.25,
        "min_rows": 200,
        "replay_rows": 1_000,
        "polyak": 0.05,
        "register_after_updates": 100,
        "register_every_updates": 100,
        "checkpoint_every_updates": 50,
    }
    return Learner(**{**values, **changes})  # type: ignore[arg-type]


def settings(seed: int = 0, **changes: object) -> ModelSettings:
    return ModelSettings(
        game="toy",
        archetype="walker",
        model="toy-walker",
        shape=SHAPE,
        learner=learner(**changes),
        seed=seed,
    )


def seen(cell: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """One-hot observation [6] of a cell."""
    observation = np.zeros(N_CELLS, np.float32)
    observation[cell] = 1.0
    return observation


def legal(cell: int) -> bytes:
    """Left and right always; `WALL` never, for it would be preferred if it were valued."""
    return bytes([int(cell > 0), 1, 0])


def row(actor: str, episode: str, step: int, offset: int, **changes: object) -> Experience:
    """One row of the toy game, with what a test wants changed."""
    values: dict[str, object] = {
        "decision_id": f"{actor}/{episode}/{step}",
        "origin": Origin(0, offset, 0),
        "game": "toy",
        "world": "w",
        "episode": episode,
        "actor_id": actor,
        "archetype": "walker",
        "domain": "walk",
        "step": step,
        "decision_time_ms": 1_000 + offset,
        "settled_time_ms": 1_010 + offset,
        "observation": seen(step % N_CELLS).tobytes(),
        "legal": legal(1),
        "action": RIGHT,
        "propensity": 0.5,
        "policy_version": "scripted",
        "immediate": 0.0,
        "long_term": 0.0,
        "total": 0.0,
        "reward_version": "walk@1",
        "status": "observed",
    }
    return Experience(**{**values, **changes})  # type: ignore[arg-type]


def walk(n_rows: int, seed: int = 0, say_next: bool = True) -> list[Experience]:
    """Rows of four random walkers, taking turns; each episode ends at cell 5 or after 12 steps."""
    rng = np.random.default_rng(seed)
    cells, episodes, steps = [0] * 4, [0] * 4, [0] * 4
    rows: list[Experience] = []
    while len(rows) < n_rows:
        k = len(rows) % 4
        cell, step = cells[k], steps[k]
        action = RIGHT if cell == 0 else int(rng.integers(2))
        following = cell + (1 if action == RIGHT else -1)
        won, late = following == N_CELLS - 1, step == 11
        say = say_next or late
        rows.append(
            row(
                f"walker-{k}", f"e{episodes[k]}", step, len(rows),
                observation=seen(cell).tobytes(), legal=legal(cell), action=action,
                explored=bool(rng.integers(2)), total=1.0 if won else -0.05,
                next_observation=seen(following).tobytes() if say and not won else None,
                next_legal=legal(following) if say and not won else None,
                terminated=won, truncated=late and not won,
            )
        )  # fmt: skip
        if won or late:
            cells[k], steps[k], episodes[k] = int(rng.integers(N_CELLS - 1)), 0, episodes[k] + 1
        else:
            cells[k], steps[k] = following, step + 1
    return rows


def changed(row: Experience, **changes: object) -> Experience:
    return msgspec.structs.replace(row, **changes)


def write_window(
    archive: Path, rows: list[Experience], index: int = 0, kind: str = "walker"
) -> Window:
    """Write rows as the archiver does and return the window that announces them."""
    window_id = f"toy/{kind}/p0/{rows[0].origin.offset}.{index}"
    path = archive / f"{window_id}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    sink = pa.BufferOutputStream()
    pq.write_table(rows_to_table(rows, SHAPE.size, N_ACTIONS), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    path.write_bytes(data)
    file = WindowFile(
        path=f"{window_id}.parquet", n_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    return Window(
        window_id=window_id,
        game="toy",
        archetype=kind,
        partition=0,
        n_rows=len(rows),
        digest=rows_digest(rows),
        files=[file],
        first_origin=rows[0].origin,
        last_origin=rows[-1].origin,
        min_time_ms=rows[0].decision_time_ms,
        max_time_ms=rows[-1].decision_time_ms,
        reward_versions=["walk@1"],
        policy_versions={"scripted": len(rows)},
        rule=WindowRule(max_rows=len(rows), max_span_ms=1_000),
    )


def write_windows(
    archive: Path, rows: list[Experience], size: int, kind: str = "walker"
) -> list[Window]:
    """Cut rows into windows of ``size`` and write them."""
    return [write_window(archive, rows[i : i + size], 0, kind) for i in range(0, len(rows), size)]
