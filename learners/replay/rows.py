"""Rows of one window as columns, and the reader that verifies a window's file."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from learners.settings import Shape
from schemas.records import Window, WindowFile

COLUMNS = [
    "revision", "origin_offset", "episode", "actor_id", "step", "observation", "legal", "action",
    "policy_version", "explored", "next_observation", "next_legal", "terminated", "truncated",
    "total", "status",
]  # fmt: skip
"""What training reads; the other columns of a window stay on disk."""


class WindowError(ValueError):
    """A window that cannot be trained on: its file is missing, altered or holds bad values."""


@dataclasses.dataclass(frozen=True, slots=True)
class WindowRows:
    """Rows of one window in origin order; N rows, D features, A actions."""

    observation: NDArray[np.float32]
    """[N, D]."""
    legal: NDArray[np.uint8]
    """[N, A], all ones where every action was legal."""
    next_observation: NDArray[np.float32]
    """[N, D], zeros where ``has_next`` is false."""
    next_legal: NDArray[np.uint8]
    """[N, A], all ones where it was not said."""
    has_next: NDArray[np.bool_]
    """The next observation was said and, where the game masks actions, its mask too."""
    action: NDArray[np.int64]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    settled: NDArray[np.bool_]
    """False where the reward of the step is not known (censored)."""
    revision: NDArray[np.int64]
    demonstration: NDArray[np.bool_]
    """The demonstrator's own choice, not an exploring one."""
    step: NDArray[np.int64]
    actor: NDArray[np.object_]
    episode: NDArray[np.object_]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.actor)

    def take(self, rows: NDArray[np.int64]) -> WindowRows:
        """Return copies of some rows, in the order asked for."""
        return WindowRows(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    def after(self, earlier: WindowRows) -> WindowRows:
        """Return these rows behind ``earlier`` ones."""
        names = [f.name for f in dataclasses.fields(self)]
        return WindowRows(
            *(np.concatenate([getattr(earlier, name), getattr(self, name)]) for name in names)
        )


class WindowReader:
    """Reads windows from an archive, each file's digest checked before a byte of it is decoded."""

    def __init__(self, archive: str, shape: Shape, demonstrator: str) -> None:
        """Take the archive's root (a path or a `pyarrow.fs` URI) and what rows must fit."""
        self._filesystem, self._root = _open_archive(archive)
        self._shape = shape
        self._demonstrator = demonstrator

    def read(self, window: Window) -> WindowRows:
        """Return the rows of a window.

        Raises:
            WindowError: a file is missing or altered, or a value breaks its rule.
        """
        tables = [self._table(file) for file in window.files]
        if not tables:
            raise WindowError(_message(window.window_id, "files", "at least one", "none"))
        table = pa.concat_tables(tables)
        if table.num_rows != window.n_rows:
            raise WindowError(
                _message(window.window_id, "n_rows", f"{window.n_rows}", f"{table.num_rows}")
            )
        rows = rows_of_table(table, self._shape, self._demonstrator)
        check_rows(rows, window.window_id)
        return rows

    def _table(self, file: WindowFile) -> pa.Table:
        path = f"{self._root}/{file.path}"
        try:
            with self._filesystem.open_input_stream(path) as stream:
                data = stream.read()
        except OSError as error:
            raise WindowError(_message(file.path, "file", "readable", str(error))) from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != file.sha256:
            raise WindowError(_message(file.path, "sha256", file.sha256, digest))
        try:
            return pq.read_table(pa.BufferReader(data), columns=COLUMNS, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise WindowError(_message(file.path, "file", "Parquet", str(error))) from error


def _open_archive(archive: str) -> tuple[pafs.FileSystem, str]:
    if "://" in archive:
        filesystem, root = pafs.FileSystem.from_uri(archive)
        return filesystem, root
    return pafs.LocalFileSystem(), archive.rstrip("/")


def _message(where: str, field: str, rule: str, got: str) -> str:
    return f"{where}: $.{field} must be {rule}; got {got}"


def rows_of_table(table: pa.Table, shape: Shape, demonstrator: str) -> WindowRows:
    """Return a table of `schemas.arrow.experience_schema` as columns for training.

    Raises:
        WindowError: a vector has another width than the game's.
    """
    n, width, n_actions = table.num_rows, shape.size, shape.n_actions
    column = {name: table.column(name).combine_chunks() for name in COLUMNS}
    observation, _ = _vectors(column["observation"], 4 * width, "observation")
    following, has_next = _vectors(column["next_observation"], 4 * width, "next_observation")
    legal, has_legal = _vectors(column["legal"], n_actions, "legal")
    next_legal, has_next_legal = _vectors(column["next_legal"], n_actions, "next_legal")
    by_demonstrator = _strings(column["policy_version"]) == demonstrator
    status = _strings(column["status"])
    return WindowRows(
        observation=observation.view("<f4").reshape(n, width),
        legal=np.where(has_legal[:, None], legal, np.uint8(1)),
        next_observation=following.view("<f4").reshape(n, width),
        next_legal=np.where(has_next_legal[:, None], next_legal, np.uint8(1)),
        has_next=has_next & (has_next_legal | ~has_legal),
        action=_numbers(column["action"], np.int64),
        reward=_numbers(column["total"], np.float64),
        terminated=_numbers(column["terminated"], np.bool_),
        truncated=_numbers(column["truncated"], np.bool_),
        settled=status != "censored",
        revision=_numbers(column["revision"], np.int64),
        demonstration=by_demonstrator & ~_numbers(column["explored"], np.bool_),
        step=_numbers(column["step"], np.int64),
        actor=_strings(column["actor_id"]),
        episode=_strings(column["episode"]),
    )


def _numbers(column: pa.Array, dtype: Any) -> NDArray[Any]:
    numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False).astype(dtype)
    return numbers


def _strings(column: pa.Array) -> NDArray[np.object_]:
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values


def _vectors(
    column: pa.Array, width: int, name: str
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the bytes [N, width] of a fixed-size binary column and which rows are there."""
    if column.type != pa.binary(width):
        raise WindowError(_message("window", name, f"{width} bytes a row", str(column.type)))
    there = column.is_valid().to_numpy(zero_copy_only=False)
    n = len(column)
    if n == 0:
        return np.zeros((0, width), np.uint8), there
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    start = column.offset * width
    data = data[start : start + n * width].reshape(n, width)
    return (data if bool(there.all()) else np.where(there[:, None], data, np.uint8(0))), there


def check_rows(rows: WindowRows, where: str) -> None:
    """Refuse rows that would poison the weights.

    Raises:
        WindowError: a number is not finite, or an action is out of range or was not legal.
    """
    for name in ("observation", "next_observation", "reward"):
        values = getattr(rows, name)
        if not np.isfinite(values).all():
            bad = int(np.argmax(~np.isfinite(values.reshape(len(rows), -1)).all(axis=1)))
            raise WindowError(_message(where, f"rows[{bad}].{name}", "finite", "nan or inf"))
    n_actions = rows.legal.shape[1]
    out = (rows.action < 0) | (rows.action >= n_actions)
    if out.any():
        bad = int(np.argmax(out))
        got = str(int(rows.action[bad]))
        raise WindowError(_message(where, f"rows[{bad}].action", f"in 0..{n_actions - 1}", got))
    illegal = rows.legal[np.arange(len(rows)), rows.action] == 0
    if illegal.any():
        bad = int(np.argmax(illegal))
        raise WindowError(_message(where, f"rows[{bad}].action", "legal", "an illegal one"))
