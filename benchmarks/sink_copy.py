"""Storage: binary COPY beside executemany on the same rows, and the archiver's way to Parquet.

    python -m benchmarks.sink_copy --rounds 3          # about a minute a round
    python -m benchmarks.sink_copy --parts archiver    # the other part as it was measured last

Every round stores the same rows in each way in databases of a server of its own (TimescaleDB where
`make timescale` was done, and PostgreSQL), and checks that they hold the same. Each way begins with
the bytes of the log's records, works in batches of about 2,000 rows, and moves the offset in the
same transaction. A first part warms server and session and is not counted. CPU seconds of the
client and of its session in the server are told apart. Then it seals the same rows as windows, from
the records' bytes to the stored file. Figures are medians.

Exit codes: 0 all targets are met, 1 one is missed or the stores differ, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psycopg
import pyarrow as pa
from blake3 import blake3
from psycopg.types.json import Jsonb

from benchmarks import sink_rows
from benchmarks.event_rows import event_rows
from benchmarks.stream_rewards import bench_game
from infra import logs
from infra.memory import tune
from infra.timescale.database import LocalDatabase, Runner
from infra.timescale.postgres import find_server, has_tree
from schemas.arrow import RowsDigest, experience_schema, rows_digest
from schemas.columns import Columns
from schemas.database import DatabaseSettings
from schemas.game import Game
from schemas.heads import read_heads
from schemas.records import (
    Experience,
    Place,
    RowHead,
    WindowRule,
    decode_heads,
    decode_rows,
    encode_rows,
)
from streams.archiver.files import Compression, WindowContent, make_window, store_window
from streams.archiver.heads import HeadsFold, Sealed
from streams.archiver.service import READ_BYTES
from streams.archiver.store import ArchiveStore
from streams.timescale.columns import COLUMNS, NAMES
from streams.timescale.store import Batch, Store
from streams.timescale.stored import stored_digests

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "sink.json"
EVENTS = "events"
"""Rows of the stream benchmark's events; the others are `sink_rows`'."""
SHAPES = (EVENTS, *sink_rows.SHAPES)
N_ROWS = {EVENTS: 24_000, "small": 24_000, "battle": 9_600}
"""A quarter of them warm the server."""
PACK = 48
BATCH_PACKS = 42
WINDOW_ROWS = 5_000
WAYS: tuple[Compression, ...] = ("lz4", "zstd", "none")
WINDOWS = {EVENTS: 5, "small": 1, "battle": 1}
"""Windows that are cut and stored: one of each archetype."""
MORE_ROWS = 100
"""Archetypes settle by turns, but for those that wait for a time-out."""
PARTS = ("database", "archiver")
COPY_TARGET, ARCHIVER_TARGET = 4.0, 200_000.0
"""Times the rows of executemany for the same CPU seconds on the slower server, each shape; rows a
CPU second of the shape that is fastest."""


def make_rows(shape: str, n: int) -> list[Experience]:
    """Return settled rows of a shape."""
    return event_rows(n) if shape == EVENTS else sink_rows.make_rows(shape, n)


class Cost(msgspec.Struct):
    """Seconds that one way took for all rows."""

    wall_s: float
    client_s: float
    server_s: float = 0.0


def main() -> int:
    """Run all rounds, print the table and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink_copy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default=",".join(PARTS), help="%(default)s, or one of them")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    try:
        result = measure(options.rounds, options.parts.split(","))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    RESULT.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result) if options.json else as_table(result))
    return 0 if all(result["met"].values()) else 1


def measure(rounds: int, parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """Return the figures of the parts, and those of the others as they were stored last."""
    logs.configure("bench", "warning")
    tune(keep=True)  # as in the processes
    found = json.loads(RESULT.read_bytes()) if RESULT.exists() else {}
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=_home()))
    try:
        if "database" in parts:
            found["database"] = _on_all_servers(folder, rounds)
        if "archiver" in parts:
            found["archiver"] = {shape: _archive(shape, folder, rounds) for shape in SHAPES}
    finally:
        shutil.rmtree(folder)
    return _result(found["database"], found["archiver"], rounds)


def _on_all_servers(folder: Path, rounds: int) -> dict[str, Any]:
    runners: list[Runner] = [
        *(("tree",) if has_tree() else ()),
        *(("plain",) if find_server() is not None else ()),
    ]
    stores: dict[str, Any] = {}
    for runner in runners:
        local = LocalDatabase(folder / runner, runner)
        try:
            settings = local.start()
            stores[runner] = {s: _compare(settings, s, rounds) for s in SHAPES}
        finally:
            local.wipe()
    return stores


def _result(stores: dict[str, Any], archive: dict[str, Any], rounds: int) -> dict[str, Any]:
    measured = {
        f"COPY times executemany, CPU, {shape}": min(
            of[shape]["times_cpu"] for of in stores.values()
        )
        for shape in SHAPES
        if stores
    }
    targets = dict.fromkeys(measured, COPY_TARGET)
    rate = "archiver rows a CPU second"
    measured[rate] = max(found["rows_per_cpu_s"] for found in archive.values())
    targets[rate] = ARCHIVER_TARGET
    return {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "rounds": rounds,
        "rows": N_ROWS,
        "batch": BATCH_PACKS * PACK,
        "targets": targets,
        "measured": measured,
        "met": {name: measured[name] >= wanted for name, wanted in targets.items()},
        "database": stores,
        "archiver": archive,
    }


def _compare(settings: DatabaseSettings, shape: str, rounds: int) -> dict[str, Any]:
    rows = make_rows(shape, N_ROWS[shape])
    ways: dict[str, Write] = {
        "copy": lambda store, batch, records: store.write(_with_heads(batch, records)),
        "copy, staged": lambda store, batch, records: store._write(
            _with_heads(batch, records), store._add_missing
        ),
        "executemany": _executemany,
    }
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for i in range(rounds):
        print(f"{shape}: round {i + 1} of {rounds}", file=sys.stderr, flush=True)
        digests = set()
        for name, write in ways.items():
            cost, digest = _store_all(settings, rows, write)
            costs[name].append(cost)
            digests.add(digest)
        if digests != {rows_digest(rows)}:
            msg = f"all ways must store the same rows; got {digests}"
            raise RuntimeError(msg)
    n_counted = len(rows) - _n_warm(rows)
    found: dict[str, Any] = {name: _medians(of, n_counted) for name, of in costs.items()}
    one, other = found["copy"], found["executemany"]
    found["times_cpu"] = one["rows_per_cpu_s"] / other["rows_per_cpu_s"]
    found["times_wall"] = one["rows_per_wall_s"] / other["rows_per_wall_s"]
    found["times_client_cpu"] = one["rows_per_client_cpu_s"] / other["rows_per_client_cpu_s"]
    return found


Write = Callable[[Store, Batch, list[bytes]], object]
"""Stores the rows of records, with the place that a batch without rows says."""


def _n_warm(rows: Sequence[Experience]) -> int:
    """Rows of the batches that are not counted."""
    size = BATCH_PACKS * PACK
    return -(-len(rows) // 4 // size) * size


def _records(rows: Sequence[Experience]) -> list[bytes]:
    return [encode_rows(list(rows[i : i + PACK])) for i in range(0, len(rows), PACK)]


def _with_heads(batch: Batch, records: list[bytes]) -> Batch:
    heads = [row for record in records for row in decode_heads(record) if type(row) is RowHead]
    return msgspec.structs.replace(batch, rows=heads)


def _store_all(
    settings: DatabaseSettings, rows: Sequence[Experience], write: Write
) -> tuple[Cost, str]:
    name = f"bench_{time.monotonic_ns()}"
    with psycopg.connect(**settings.connection(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        store = Store.open(msgspec.structs.replace(settings, database=name), "experiences")
        store.place(0)
        pid = store.connection.info.backend_pid
        cost = Cost(0.0, 0.0)
        for i in range(0, len(rows), BATCH_PACKS * PACK):
            part = rows[i : i + BATCH_PACKS * PACK]
            records = _records(part)
            batch = Batch(0, i, Place(i + len(part), part[-1].origin), [])
            if i < _n_warm(rows):
                write(store, batch, records)
                continue
            served, wall, cpu = _cpu_of(pid), time.perf_counter(), time.process_time()
            write(store, batch, records)
            cost.wall_s += time.perf_counter() - wall
            cost.client_s += time.process_time() - cpu
            cost.server_s += _cpu_of(pid) - served
        digest = stored_digests(store.connection)[0]
        store.close()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    return cost, digest


_INSERT = (
    f"INSERT INTO experiences ({', '.join(NAMES)}) VALUES ({', '.join(['%s'] * len(NAMES))}) "
    "ON CONFLICT DO NOTHING"
).encode()


def _executemany(store: Store, batch: Batch, records: list[bytes]) -> None:
    """As one writes it without COPY: Python's own types, and psycopg's pipeline below it."""
    rows = [r for record in records for r in decode_rows(record) if isinstance(r, Experience)]
    with store.connection.transaction(), store.connection.cursor() as cursor:
        store._lock(batch)
        cursor.executemany(_INSERT, [_plain_values(row) for row in rows])
        store._advance(batch, len(rows))


def _plain_values(row: Experience) -> list[Any]:
    values: list[Any] = []
    for column in COLUMNS:
        above, _, below = column.source.partition(".")
        value = getattr(row, above)
        if below and value is not None:
            value = getattr(value, below)
        if value is not None and column.kind == "time":
            value = datetime.fromtimestamp(value / 1000, UTC)
        elif value is not None and column.kind == "json":
            value = Jsonb(value)
        values.append(value)
    return [*values, row.language is not None, None]


def _cpu_of(pid: int) -> float:
    """CPU seconds of a session's process in the server, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text("utf-8").split()[0]) / 1e9


def _medians(costs: list[Cost], n: int) -> dict[str, float]:
    return {
        "rows_per_wall_s": n / median(c.wall_s for c in costs),
        "rows_per_client_cpu_s": n / median(c.client_s for c in costs),
        "rows_per_cpu_s": n / median(c.client_s + c.server_s for c in costs),
        "rows_per_server_cpu_s": n / max(median(c.server_s for c in costs), 1e-9),
    }


def _archive(shape: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Return what the archiver's steps cost a row, and all of them together."""
    game = bench_game() if shape == EVENTS else sink_rows.game_of(shape)
    n = WINDOWS[shape] * WINDOW_ROWS
    rows = make_rows(shape, n + MORE_ROWS * (WINDOWS[shape] - 1))
    records = _records(rows)
    made = Columns(experience_schema(game.observation.size, game.actions.n))
    whole = b"".join(records)
    sealed, store = _cut(records), ArchiveStore.open(str(folder))
    if len(sealed) != WINDOWS[shape]:
        msg = f"{shape} must fill {WINDOWS[shape]} windows; got {len(sealed)}"
        raise RuntimeError(msg)

    def windows(compression: Compression) -> list[WindowContent]:
        return [make_window(window, game, compression) for window in sealed]

    def columns() -> None:
        for window in sealed:
            list(made.batches(window.rows.chunks(), RowsDigest()))

    steps: dict[str, Callable[[], object]] = {
        "floor: BLAKE3 of the bytes": lambda: blake3(whole).digest(),
        "floor: LZ4 of the bytes": lambda: pa.compress(whole, "lz4", asbytes=True),
        "floor: zstd of the bytes": lambda: pa.compress(whole, "zstd", asbytes=True),
        "read heads": lambda: read_heads(records),
        "read heads, cut windows": lambda: _cut(records),
        "columns and digest": columns,
        "columns, digest, Parquet, LZ4": lambda: windows("lz4"),
        "columns, digest, Parquet, zstd": lambda: windows("zstd"),
        "columns, digest, Parquet, uncompressed": lambda: windows("none"),
        "all, from record to stored file": lambda: _seal(store, records, game),
    }
    us = {name: 1e6 * _cpu_of_call(step, rounds, folder) / n for name, step in steps.items()}
    whole_us = us["all, from record to stored file"]
    return {
        "row_bytes": len(whole) / len(rows),
        "file_bytes": {of: sum(len(w.data) for w in windows(of)) / n for of in WAYS},
        "us_a_row": us,
        "rows_per_cpu_s": 1e6 / whole_us,
        "mb_per_cpu_s": len(whole) / len(rows) / whole_us,
    }


def _cut(records: list[bytes]) -> list[Sealed]:
    """Cut records into windows as many at once as the archiver does."""
    rule = WindowRule(max_rows=WINDOW_ROWS, max_span_ms=1_000_000)
    fold = HeadsFold(0, lambda _: rule)
    size = 1 + READ_BYTES // len(records[0])
    sealed: list[Sealed] = []
    for i in range(0, len(records), size):
        some = records[i : i + size]
        sealed += fold.take(range(i, i + len(some)), read_heads(some))
    return sealed


def _seal(store: ArchiveStore, records: list[bytes], game: Game) -> None:
    for sealed in _cut(records):
        store_window(store, sealed, game, "lz4")


def _cpu_of_call(call: Callable[[], object], rounds: int, folder: Path) -> float:
    """Median CPU seconds of a call, all threads; to remove the files it made is not counted."""
    found = []
    for _ in range(rounds * 2 + 1):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
        for path in folder.rglob("*.parquet"):
            path.unlink()  # else it would be read, and kept
    return median(found[1:])


def _home() -> Path:
    home = ROOT / ".grindstone"
    home.mkdir(exist_ok=True)
    return home


def as_table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    heads = "".join(
        f"{name:>14}" for name in ("rows/s", "/client CPU s", "/CPU s", "/server CPU s")
    )
    lines = [f"{'server':8}{'shape':8}{'way':14}{heads}"]
    for runner, of in result["database"].items():
        for shape, found in of.items():
            for way in ("copy", "copy, staged", "executemany"):
                figures = "".join(f"{value:>14,.0f}" for value in found[way].values())
                lines.append(f"{runner:8}{shape:8}{way:14}{figures}")
            times = [f"{found[f'times_{of}']:.1f} ({of})" for of in ("cpu", "client_cpu", "wall")]
            lines.append(f"{'':16}COPY stores so many times the rows: {', '.join(times)}")
    for shape, found in result["archiver"].items():
        lines.append(
            f"archiver, {shape} ({found['row_bytes']:,.0f} bytes a row): "
            f"{found['rows_per_cpu_s']:,.0f} rows a CPU second, {found['mb_per_cpu_s']:,.0f} MB/s"
        )
        lines += [f"    {us:7.2f} us a row  {name}" for name, us in found["us_a_row"].items()]
    for name, wanted in result["targets"].items():
        verdict = "met" if result["met"][name] else "MISSED"
        lines.append(f"{name}: {result['measured'][name]:,.1f} (target {wanted:,.0f}): {verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
