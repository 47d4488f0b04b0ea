"""All types keep training from windows of live play of the arena, those that predict too."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from games.arena.rewards import described
from games.arena.windows import rows_of
from infra.learn.again import rebuild
from infra.learn.live import game_source
from infra.learn.rows import make_layout
from learners.model_types.base import LearnError
from learners.model_types.registry import model_type, names
from learners.replay.rows import WindowError
from learners.training.continuous import ContinuousSession, ContinuousSessions
from learners.training.deliver import read_version
from learners.training.publish import Place
from learners.training.retrain import RetrainRule
from learners.training.rows import rows_digest
from learners.training.steps import Source, StepReader
from schemas.model_events import Registered
from schemas.records import Experience, Window
from tests.infra.lake import archive
from tests.infra.lived import settled
from tests.learners.training.continued import work_off

TYPES = ["threat_assessment", "combat_dqn", "spatial_vit"]
RULE = RetrainRule(rows=300, keep_rows=2_000, updates=2)
MAGES = [r for r in settled() if isinstance(r, Experience) and r.archetype == "mage"]


def opened(root: Path, types: list[str]) -> ContinuousSession:
    place = Place(
        game="arena", archive=str(root / "windows"), models=root / "models",
        checkpoints=root / "checkpoints", code_version="test",
    )  # fmt: skip
    sessions = ContinuousSessions(
        place=place, archetypes=["mage"], types=types, source=game_source("arena"), rule=RULE
    )
    return sessions.open("arena/mage", None)  # type: ignore[arg-type]


def windows_of(root: Path, rows: list[Experience], max_rows: int) -> list[Window]:
    return archive(rows, described(), root / "windows", max_rows=max_rows)


def fed(session: ContinuousSession, windows: list[Window]) -> list[Registered]:
    made: list[Registered] = []
    for offset, window in enumerate(windows):
        session.take(window, 0, offset)
        made += work_off(session, {}, chunk_s=5.0)
    return made


def test_predicting_types_learn_from_whole_steps_and_are_made_again(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, MAGES, 700)
    session = opened(tmp_path, TYPES)
    made = fed(session, windows)
    assert not session.refused
    assert {version.algorithm for version in made} == set(TYPES)
    last = [v for v in made if v.algorithm == "spatial_vit"][-1]
    info = read_version(tmp_path / "models" / last.folder)
    told = info.plan.rows["mage"]
    known = windows[: last.n_windows]
    offsets = {w.last_origin.offset for w in known}
    upto = [row for row in MAGES if row.origin.offset <= max(offsets)]
    assert told["digest"] == rows_digest(rows_of(upto, maps=True))
    assert info.metrics["loss"] > 0
    again = rebuild(
        tmp_path / "models", tmp_path, str(tmp_path / "windows"),
        f"{last.model}@{last.version}", lambda done, of: None,
    )  # fmt: skip
    assert again.same


def test_steps_that_lie_in_two_windows_are_one_again(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, MAGES, 333)
    reader = game_source("arena").reader(
        model_type("pattern_recognition"), str(tmp_path / "windows")
    )
    parts = [reader.read(window) for window in windows]
    whole = rows_of(MAGES)
    assert sum(len(part) for part in parts) < len(whole)
    assert rows_digest(reader.episodes(parts, maps=False)) == rows_digest(whole)


def test_windows_that_no_step_can_be_made_of_bring_nothing_or_are_refused(tmp_path: Path) -> None:
    source = game_source("arena")
    reader = StepReader(str(tmp_path / "windows"), source)
    combat = [row for row in MAGES if row.domain == "combat"][:50]
    [window] = windows_of(tmp_path, combat, 100)
    assert len(reader.read(window)) == 0
    untold = [
        msgspec.structs.replace(row, details={"enemies": "mage", "enemy_0_place": 0})
        if row.details
        else row
        for row in MAGES[:200]
    ]
    [window] = windows_of(tmp_path / "untold", untold, 200)
    with pytest.raises(WindowError, match=r"\$\.details must be the details that the game's"):
        StepReader(str(tmp_path / "untold" / "windows"), source).read(window)


def test_a_game_that_tells_no_facts_has_nothing_for_types_that_predict() -> None:
    source = Source(make_layout(), game_source("arena").heads)
    predicting = [name for name in names() if model_type(name).acts is None]
    assert len(predicting) == 4
    for name in predicting:
        with pytest.raises(LearnError, match="for its windows tell no facts of enemies; got"):
            source.reader(model_type(name), "nowhere")
