"""Reading windows: every file is verified and every value checked before it is learned."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from learners.replay.rows import WindowError, WindowReader
from learners.settings import Shape
from schemas.records import Experience, Window
from tests.learners import toy


def reader(archive: Path, shape: Shape = toy.SHAPE) -> WindowReader:
    return WindowReader(str(archive), shape, "scripted")


def refused(archive: Path, window: Window, match: str, shape: Shape = toy.SHAPE) -> None:
    with pytest.raises(WindowError, match=match):
        reader(archive, shape).read(window)


def spoilt(archive: Path, **changes: object) -> Window:
    """A window whose third row was changed."""
    rows: list[Experience] = toy.walk(8)
    rows[2] = toy.changed(rows[2], **changes)
    return toy.write_window(archive, rows)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = toy.walk(40)
    got = reader(tmp_path).read(toy.write_window(tmp_path, rows))
    assert len(got) == 40
    for i, row in enumerate(rows):
        assert got.observation[i].tobytes() == row.observation
        assert got.legal[i].tobytes() == row.legal
        assert bool(got.has_next[i]) == (row.next_observation is not None)
        assert got.next_observation[i].tobytes() == (row.next_observation or bytes(24))
        assert (got.action[i], got.reward[i]) == (row.action, row.total)
        assert (got.actor[i], got.episode[i], got.step[i]) == (
            row.actor_id, row.episode, row.step,
        )  # fmt: skip
        assert bool(got.demonstration[i]) == (not row.explored)


def test_uri_names_an_archive_too(tmp_path: Path) -> None:
    window = toy.write_window(tmp_path, toy.walk(8))
    assert len(WindowReader(f"file://{tmp_path}", toy.SHAPE, "scripted").read(window)) == 8


def test_missing_mask_means_that_all_is_legal(tmp_path: Path) -> None:
    got = reader(tmp_path).read(spoilt(tmp_path, legal=None, next_legal=None))
    assert got.legal[2].tolist() == [1, 1, 1]
    assert bool(got.has_next[2])


def test_next_observation_without_its_mask_does_not_count_as_said(tmp_path: Path) -> None:
    assert not reader(tmp_path).read(spoilt(tmp_path, next_legal=None)).has_next[2]


def test_altered_file_is_refused(tmp_path: Path) -> None:
    window = toy.write_window(tmp_path, toy.walk(8))
    path = tmp_path / window.files[0].path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    refused(tmp_path, window, r"\$\.sha256 must be [0-9a-f]{64}; got [0-9a-f]{64}")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    window = toy.write_window(tmp_path, toy.walk(8))
    (tmp_path / window.files[0].path).unlink()
    refused(tmp_path, window, r"\$\.file must be readable")


def test_window_without_files_or_with_other_rows_is_refused(tmp_path: Path) -> None:
    window = toy.write_window(tmp_path, toy.walk(8))
    refused(tmp_path, msgspec.structs.replace(window, files=[]), "at least one; got none")
    refused(tmp_path, msgspec.structs.replace(window, n_rows=9), "n_rows must be 9; got 8")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("field", ["observation", "next_observation"])
def test_vector_that_is_not_finite_is_refused(tmp_path: Path, field: str, bad: float) -> None:
    vector = np.full(toy.N_CELLS, bad, np.float32).tobytes()
    refused(tmp_path, spoilt(tmp_path, **{field: vector}), rf"rows\[2\]\.{field} must be finite")


def test_reward_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, spoilt(tmp_path, total=float("nan")), r"rows\[2\]\.reward must be finite")


def test_action_out_of_range_or_illegal_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, spoilt(tmp_path, action=3), r"rows\[2\]\.action must be in 0..2; got 3")
    refused(tmp_path, spoilt(tmp_path, action=toy.WALL), r"rows\[2\]\.action must be legal")


def test_vectors_of_another_width_are_refused(tmp_path: Path) -> None:
    window = toy.write_window(tmp_path, toy.walk(8))
    other = Shape(observation=(5,), n_actions=toy.N_ACTIONS)
    refused(tmp_path, window, "observation must be 20 bytes a row", other)


def test_file_without_a_column_is_refused(tmp_path: Path) -> None:
    window = toy.write_window(tmp_path, toy.walk(8))
    path = tmp_path / window.files[0].path
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["legal", "step"]), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    altered = msgspec.structs.replace(window.files[0], sha256=digest)
    window = msgspec.structs.replace(window, files=[altered])
    refused(tmp_path, window, r"\$\.file must be of columns .*; got none of legal, step")
