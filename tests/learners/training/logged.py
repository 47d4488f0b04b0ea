"""The toy world's logged rows as experience in windows, written as the archiver does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from learners.training.publish import Place
from learners.training.steps import Source
from schemas.arrow import rows_digest
from schemas.columns import rows_to_table
from schemas.practice import Episodes, Head
from schemas.records import Experience, Origin, Window, WindowFile, WindowRule
from tests.learners.model_types.toy import ToyLayout, toy_episodes

LAYOUT = ToyLayout()
HEADS: dict[Head, tuple[int, int]] = {"combat": (0, 4), "movement": (4, 8), "aim": (8, 9)}
N_ACTIONS = 9
SOURCE = Source(LAYOUT, HEADS)
GAME = "toy"


def place(root: Path) -> Place:
    """Folders of a learner under one root."""
    return Place(
        game=GAME, archive=str(root / "archive"), models=root / "models",
        checkpoints=root / "checkpoints", code_version="test",
    )  # fmt: skip


def experiences(
    rows: Episodes, archetype: str = "mage", begin: int = 0, version: str = "scripted"
) -> list[Experience]:
    """Each row as a decision in "combat" and one in "aim", in the order in which they were made."""
    found: list[Experience] = []
    for i in np.lexsort((rows.actor, rows.step, rows.match)):
        for head in ("combat", "aim"):
            found.append(_experience(rows, int(i), head, archetype, begin + len(found), version))
    return found


def _experience(
    rows: Episodes, i: int, head: str, archetype: str, offset: int, version: str
) -> Experience:
    first, end = HEADS["combat" if head == "combat" else "aim"]
    legal = np.zeros(N_ACTIONS, np.uint8)
    legal[first:end] = rows.legal["combat"][i] if head == "combat" else 1
    truncated = bool(rows.truncated[i])
    return Experience(
        decision_id=f"{offset}", origin=Origin(0, offset, 0), game=GAME, world="w",
        episode=f"w-m{rows.match[i]}-{head}", actor_id=f"w/{rows.actor[i]}", archetype=archetype,
        domain=head, step=int(rows.step[i]), decision_time_ms=1_000 + offset,
        settled_time_ms=1_010 + offset, observation=rows.observation[i].tobytes(),
        legal=legal.tobytes(),
        action=int(rows.action["combat"][i]) if head == "combat" else first,
        propensity=float(rows.propensity["combat"][i]) if head == "combat" else 0.85,
        continuous=rows.aim[i].tobytes() if head == "aim" else None,
        policy_version=version,
        next_observation=rows.next_observation[i].tobytes() if truncated else None,
        terminated=bool(rows.terminated[i]), truncated=truncated, immediate=0.0, long_term=0.0,
        total=float(rows.reward[i]), reward_version="toy@1", status="observed",
    )  # fmt: skip


def write_window(archive: Path, rows: list[Experience], width: int = LAYOUT.n_features) -> Window:
    """Write rows as one window and return what announces it."""
    window_id = f"{GAME}/{rows[0].archetype}/p0/{rows[0].origin.offset}"
    path = archive / f"{window_id}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    sink = pa.BufferOutputStream()
    pq.write_table(rows_to_table(rows, width, N_ACTIONS), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    path.write_bytes(data)
    return Window(
        window_id=window_id, game=GAME, archetype=rows[0].archetype, partition=0,
        n_rows=len(rows), digest=rows_digest(rows),
        files=[
            WindowFile(
                path=f"{window_id}.parquet", n_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
            )
        ],
        first_origin=rows[0].origin, last_origin=rows[-1].origin,
        min_time_ms=rows[0].decision_time_ms, max_time_ms=rows[-1].decision_time_ms,
        reward_versions=["toy@1"], policy_versions={"scripted": len(rows)},
        rule=WindowRule(max_rows=len(rows), max_span_ms=1_000),
    )  # fmt: skip


def windows(archive: Path, n_matches: int = 20, size: int = 300, seed: int = 0) -> list[Window]:
    """Windows of a log of the toy world."""
    rows = experiences(toy_episodes(n_matches, seed))
    return [write_window(archive, rows[i : i + size]) for i in range(0, len(rows), size)]
