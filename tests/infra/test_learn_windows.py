"""Rows that trainings begin from, out of windows of live play of the arena."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from games.arena.rewards import described
from games.arena.windows import rows_of
from infra.learn.windows import ensure_recorded
from infra.sql import QueryError
from learners.training.rows import check_rows, read_rows, rows_digest, rows_made_from
from schemas.errors import SchemaError
from schemas.records import Experience
from tests.infra.lake import archive, duels, fold, log_of
from tests.infra.lived import settled


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    archive(settled(), described(), folder, max_rows=2_000)
    return folder


def test_windows_are_the_rows_that_were_settled(windows: Path, tmp_path: Path) -> None:
    told: list[str] = []
    folders = ensure_recorded(windows, tmp_path, ["mage", "tank"], 10_000, False, told.append)
    assert told == ["mage", "tank"]
    for name, folder in folders.items():
        rows = read_rows(folder)
        check_rows(rows, name)
        own = [r for r in settled() if isinstance(r, Experience) and r.archetype == name]
        assert rows_digest(rows) == rows_digest(rows_of(own))
        about = rows_made_from(folder)
        assert about is not None
        assert about["decisions"] == len(own) >= 4 * len(rows)
        assert about["policies"] == {"scripted": len(own)}
        assert about["rewards"] == {f"{name}@1": len(own)}
        assert about["offsets"] == {
            "0": [min(r.origin.offset for r in own), max(r.origin.offset for r in own)]
        }
    assert ensure_recorded(windows, tmp_path, ["mage", "tank"], 10_000, False) == folders


def test_newest_whole_matches_are_taken(windows: Path, tmp_path: Path) -> None:
    (few,) = ensure_recorded(windows, tmp_path, ["support"], 50, True).values()
    (every,) = ensure_recorded(windows, tmp_path, ["support"], 10_000, True).values()
    some, rows = read_rows(few), read_rows(every)
    assert 50 <= len(some) < len(rows)
    assert some.maps is not None and rows.maps is not None
    newest = np.unique(rows.match)[-len(np.unique(some.match)) :]
    assert np.isin(rows.match, newest).sum() == len(some)


def test_archives_without_the_arena_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="windows must lie below"):
        ensure_recorded(tmp_path / "none", tmp_path, ["mage"], 10, False)
    archive(fold(log_of(), duels()), duels(), tmp_path / "duels")
    with pytest.raises(SchemaError, match="--rows must be windows with whole steps of mage"):
        ensure_recorded(tmp_path / "duels", tmp_path, ["mage"], 10, False)
