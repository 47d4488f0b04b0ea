"""Loading replay windows, beside the same rows whose vectors are lists of a fixed size.

    make bench-learn ARGS="--parts windows"

Both files hold the same rows and are read by the same reader with all its checks (SHA-256, widths,
finite values, legal actions) and with the archiver's settings; only the type of the four vector
columns differs: `binary(4 D)` as Grindstone writes them, or `fixed_size_list<float>[D]`. Apart from
the whole the four columns are read alone, and the rows are added to replay.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.learn import target
from benchmarks.learn_timing import by_turns
from benchmarks.sink_rows import SHAPES, make_rows
from learners.replay.buffer import PrioritisedReplay
from learners.replay.rows import (
    COLUMNS,
    NAMES,
    WindowReader,
    WindowRows,
    check_rows,
    rows_of_table,
)
from learners.settings import Shape
from schemas.columns import rows_to_table
from schemas.records import Origin, Window, WindowFile, WindowRule
from streams.archiver.files import archive_writer

N_ROWS = 4_096
N_CALLS = 8
VECTORS = {"observation": "<f4", "next_observation": "<f4", "legal": "u1", "next_legal": "u1"}


def as_lists(table: pa.Table) -> pa.Table:
    """Return a table with its vectors as lists of a fixed size."""
    for name, dtype in VECTORS.items():
        column = table.column(name).combine_chunks()
        width = column.type.byte_width // np.dtype(dtype).itemsize
        values = np.frombuffer(column.buffers()[1], dtype)[: len(column) * width]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values), width)
        table = table.set_column(table.column_names.index(name), name, lists)
    return table


def read_lists(path: Path, sha256: str, shape: Shape) -> WindowRows:
    """Read a file of lists as the reader reads one of ours."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(path)
    table = pq.ParquetFile(pa.BufferReader(data), read_dictionary=NAMES).read(
        COLUMNS, use_threads=False
    )
    for name, dtype in VECTORS.items():
        column = table.column(name).combine_chunks()
        n_bytes = column.type.list_size * np.dtype(dtype).itemsize
        binary = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(n_bytes), len(column), [None, column.values.buffers()[1]]
        )
        table = table.set_column(table.column_names.index(name), name, binary)
    rows = rows_of_table(table, shape, "scripted")
    check_rows(rows, str(path))
    return rows


def write(table: pa.Table, path: Path, *, has_lists: bool = False) -> str:
    """Write a table with the archiver's settings; returns the file's SHA-256."""
    sink = pa.BufferOutputStream()
    with archive_writer(sink, table.schema, "lz4", store_schema=has_lists) as writer:
        writer.write_table(table)
    data = bytes(sink.getvalue())
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def vector_columns(path: Path) -> pa.Table:
    """Read the four vector columns of a file and no more."""
    file = pq.ParquetFile(pa.BufferReader(path.read_bytes()))
    return file.read(list(VECTORS), use_threads=False)


def window_of(path: Path, sha256: str) -> Window:
    """Return the announcement of a file."""
    file = WindowFile(path=path.name, n_bytes=path.stat().st_size, sha256=sha256)
    return Window(
        window_id="bench", game="bench", archetype="wolf", partition=0, n_rows=N_ROWS, digest="",
        files=[file], first_origin=Origin(0, 0, 0), last_origin=Origin(0, N_ROWS, 0),
        min_time_ms=0, max_time_ms=0, reward_versions=[], policy_versions={},
        rule=WindowRule(max_rows=N_ROWS, max_span_ms=1),
    )  # fmt: skip


def measure_shape(name: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Return the rows of the table for one size of observations."""
    n_floats, n_actions = SHAPES[name]
    shape = Shape(observation=(n_floats,), n_actions=n_actions)
    made = make_rows(name, N_ROWS)
    table = rows_to_table(made, n_floats, n_actions)
    legal = np.ones((N_ROWS, n_actions), np.uint8)  # so that every action passes the check
    binary = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(n_actions), N_ROWS, [None, pa.py_buffer(legal.tobytes())]
    )
    table = table.set_column(table.column_names.index("legal"), "legal", binary)
    ours, theirs = folder / f"{name}.parquet", folder / f"{name}-lists.parquet"
    window, lists_sha = (
        window_of(ours, write(table, ours)),
        write(as_lists(table), theirs, has_lists=True),
    )
    reader = WindowReader(str(folder), shape, "scripted")
    same = read_lists(theirs, lists_sha, shape).observation.tobytes()
    if reader.read(window).observation.tobytes() != same:
        raise ValueError(name)
    replay = PrioritisedReplay(shape, 65_536, n_step=3, discount=0.99, alpha=0.6, beta=0.4)
    rows, number = reader.read(window), iter(range(1 << 30))
    spent = by_turns(
        {
            "binary": lambda: reader.read(window),
            "lists": lambda: read_lists(theirs, lists_sha, shape),
            "binary, vectors alone": lambda: vector_columns(ours),
            "lists, vectors alone": lambda: vector_columns(theirs),
            "added to replay": lambda: replay.fold(rows, next(number)),
        },
        N_CALLS, rounds, warm=2,
    )  # fmt: skip
    what = f"{N_ROWS} rows of {n_floats} floats"
    return [
        {"what": f"{what}, {key}", "ms": round(us / 1e3, 2), "us a row": round(us / N_ROWS, 2)}
        for key, us in spent.items()
    ]


def measure(rounds: int) -> dict[str, Any]:
    """Return times and targets for a small and a large observation."""
    with tempfile.TemporaryDirectory(prefix="bench-learn-") as folder:
        small, battle = (measure_shape(name, Path(folder), rounds) for name in SHAPES)
    targets = []
    for what, rows in (("64 floats", small), ("845 floats", battle)):
        whole, alone = rows[1]["ms"] / rows[0]["ms"], rows[3]["ms"] / rows[2]["ms"]
        targets += [
            target(f"{what}, binary over lists, vectors alone", alone, "at least", 2.5),
            target(f"{what}, the same, whole windows with digest and checks", whole,
                   "at least", 2.5),
        ]  # fmt: skip
    return {"rows": [*small, *battle], "targets": targets}
