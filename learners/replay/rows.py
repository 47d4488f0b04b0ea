"""Rows of one window as columns, and the reader that verifies a window's file."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
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

NAMES = ["actor_id", "episode", "policy_version", "status"]
"""Columns of strings of which a window has few: read as numbers, each string once."""


class WindowError(ValueError):
    """A window that cannot be trained on: its file is missing, altered or holds bad values."""


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """N strings, few of them different."""

    codes: NDArray[np.int64]
    """[N] numbers of names."""
    names: Sequence[str]

    @classmethod
    def of(cls, values: Sequence[str]) -> Names:
        """Return names given one by one."""
        known: dict[str, int] = {}
        codes = [known.setdefault(value, len(known)) for value in values]
        return cls(np.asarray(codes, np.int64), list(known))

    def __len__(self) -> int:
        """Return N."""
        return len(self.codes)

    def __getitem__(self, i: int) -> str:
        """Return string i."""
        return self.names[int(self.codes[i])]

    def where(self, name: str) -> NDArray[np.bool_]:
        """Return which of them [N] are a name."""
        return np.asarray([known == name for known in self.names], np.bool_)[self.codes]

    def take(self, rows: NDArray[np.int64]) -> Names:
        """Return some of them."""
        return Names(self.codes[rows], self.names)


@dataclasses.dataclass(frozen=True, slots=True)
class WindowRows:
    """Rows of one window in origin order; N rows, D features, A actions.

    Vectors are views into what the file was decoded to, wherever nothing had to be filled in.
    """

    observation: NDArray[np.float32]
    """[N, D]."""
    legal: NDArray[np.uint8]
    """[N, A], all ones where every action was legal."""
    next_observation: NDArray[np.float32]
    """[N, D]; anything where ``has_next`` is false."""
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
    actor: Names
    episode: Names

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.actor)

    def take(self, rows: NDArray[np.int64]) -> WindowRows:
        """Return copies of some rows, in the order asked for."""

        def some(value: Any) -> Any:
            return value.take(rows) if isinstance(value, Names) else value[rows]

        return WindowRows(*(some(getattr(self, f.name)) for f in dataclasses.fields(self)))


class WindowReader:
    """Reads windows from an archive, each file's digest checked before a byte of it is decoded."""

    def __init__(self, archive: str, shape: Shape, demonstrator: str) -> None:
        """Take the archive's root (a path or a `pyarrow.fs` URI) and what rows must fit."""
        self._filesystem, self._root = open_archive(archive)
        self._shape = shape
        self._demonstrator = demonstrator

    def read(self, window: Window) -> WindowRows:
        """Return the rows of a window.

        Raises:
            WindowError: a file is missing or altered, or a value breaks its rule.
        """
        table = read_window(self._filesystem, self._root, window, COLUMNS, NAMES)
        rows = rows_of_table(table, self._shape, self._demonstrator)
        check_rows(rows, window.window_id)
        return rows


def read_window(
    filesystem: pafs.FileSystem,
    root: str,
    window: Window,
    columns: Sequence[str],
    names: Sequence[str],
) -> pa.Table:
    """Return some columns of a window's files, those of ``names`` each string once.

    Raises:
        WindowError: a file is missing or altered, or there are not the rows that were announced.
    """
    parts = [read_file(filesystem, root, file, columns, names) for file in window.files]
    if not parts:
        raise window_error(window.window_id, "files", "at least one", "none")
    table = pa.concat_tables(parts)
    if table.num_rows != window.n_rows:
        raise window_error(window.window_id, "n_rows", str(window.n_rows), str(table.num_rows))
    return table


def read_file(
    filesystem: pafs.FileSystem,
    root: str,
    file: WindowFile,
    columns: Sequence[str],
    names: Sequence[str],
) -> pa.Table:
    """Return some columns of a window's file, those of ``names`` each string once.

    Raises:
        WindowError: it is missing, altered or no Parquet.
    """
    try:  # not as a stream, which grows what it has read piece by piece
        with filesystem.open_input_file(f"{root}/{file.path}") as stored:
            data = stored.read_buffer()
    except OSError as error:
        raise window_error(file.path, "file", "readable", str(error)) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise window_error(file.path, "sha256", file.sha256, digest)
    try:  # not `read_table`: of a small window half its time goes into planning
        parquet = pq.ParquetFile(pa.BufferReader(data), read_dictionary=list(names))
        table = parquet.read(list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise window_error(file.path, "file", "Parquet", str(error)) from error
    missing = set(columns).difference(table.column_names)
    if missing:
        rule, got = f"of columns {', '.join(columns)}", f"none of {', '.join(sorted(missing))}"
        raise window_error(file.path, "file", rule, got)
    return table.select(list(columns))


def open_archive(archive: str) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem of an archive's root, a path or a `pyarrow.fs` URI, and its path."""
    if "://" in archive:
        filesystem, root = pafs.FileSystem.from_uri(archive)
        return filesystem, root
    return pafs.LocalFileSystem(), archive.rstrip("/")


def window_error(where: str, field: str, rule: str, got: str) -> WindowError:
    """Return the error of a window, or of a file of it, that breaks a rule."""
    return WindowError(f"{where}: $.{field} must be {rule}; got {got}")


def rows_of_table(table: pa.Table, shape: Shape, demonstrator: str) -> WindowRows:
    """Return a table of `schemas.arrow.experience_schema` as columns for training.

    Raises:
        WindowError: a vector has another width than the game's.
    """
    n, width, n_actions = table.num_rows, shape.size, shape.n_actions
    column = {name: _whole(table.column(name)) for name in COLUMNS}
    observation, _ = vectors(column["observation"], 4 * width, "observation")
    following, has_next = vectors(column["next_observation"], 4 * width, "next_observation")
    legal, has_legal = _masks(column["legal"], n_actions, "legal")
    next_legal, has_next_legal = _masks(column["next_legal"], n_actions, "next_legal")
    by_demonstrator = names_of(column["policy_version"]).where(demonstrator)
    return WindowRows(
        observation=observation.view("<f4").reshape(n, width),
        legal=legal,
        next_observation=following.view("<f4").reshape(n, width),
        next_legal=next_legal,
        has_next=has_next & (has_next_legal | ~has_legal),
        action=numbers_of(column["action"], np.int64),
        reward=numbers_of(column["total"], np.float64),
        terminated=numbers_of(column["terminated"], np.bool_),
        truncated=numbers_of(column["truncated"], np.bool_),
        settled=~names_of(column["status"]).where("censored"),
        revision=numbers_of(column["revision"], np.int64),
        demonstration=by_demonstrator & ~numbers_of(column["explored"], np.bool_),
        step=numbers_of(column["step"], np.int64),
        actor=names_of(column["actor_id"]),
        episode=names_of(column["episode"]),
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece; `combine_chunks` copies one that is."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def numbers_of(column: pa.Array, dtype: Any) -> NDArray[Any]:
    """Return a column [N] of numbers or bools."""
    numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False).astype(dtype)
    return numbers


def names_of(column: pa.Array) -> Names:
    """Return a column [N] of strings."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return Names(numbers_of(column.indices, np.int64), column.dictionary.to_pylist())


def vectors(column: pa.Array, width: int, name: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the bytes [N, width] of a fixed-size binary column, uncopied, and which are there."""
    if column.type != pa.binary(width):
        rule = f"{width} bytes a row"
        raise window_error(where="window", field=name, rule=rule, got=str(column.type))
    n = len(column)
    there = np.ones(n, np.bool_)
    if column.null_count:
        there = column.is_valid().to_numpy(zero_copy_only=False)
    if n == 0:
        return np.zeros((0, width), np.uint8), there
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    start = column.offset * width
    return data[start : start + n * width].reshape(n, width), there


def _masks(column: pa.Array, width: int, name: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return masks [N, width], all ones where none was said, and which were said."""
    masks, there = vectors(column, width, name)
    if not there.all():
        masks = masks.copy()
        masks[~there] = 1
    return masks, there


def check_rows(rows: WindowRows, where: str) -> None:
    """Refuse rows that would poison the weights.

    Raises:
        WindowError: a number is not finite, or an action is out of range or was not legal.
    """
    for name in ("observation", "next_observation", "reward"):
        values = getattr(rows, name).reshape(len(rows), -1)
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(values.sum()):  # a sum over all is cheap, and tells most times
                continue
        bad_rows = ~np.isfinite(values).all(axis=1)
        if name == "next_observation":
            bad_rows &= rows.has_next
        if bad_rows.any():
            bad = int(np.argmax(bad_rows))
            raise window_error(where, f"rows[{bad}].{name}", "finite", "nan or inf")
    n_actions = rows.legal.shape[1]
    out = (rows.action < 0) | (rows.action >= n_actions)
    if out.any():
        bad = int(np.argmax(out))
        got = str(int(rows.action[bad]))
        raise window_error(where, f"rows[{bad}].action", f"in 0..{n_actions - 1}", got)
    illegal = rows.legal[np.arange(len(rows)), rows.action] == 0
    if illegal.any():
        bad = int(np.argmax(illegal))
        raise window_error(where, f"rows[{bad}].action", "legal", "an illegal one")
