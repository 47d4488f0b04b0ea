"""Sealed windows as Parquet files with the same bytes each time, and back."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.arrow import rows_digest, rows_to_table, table_to_rows
from schemas.game import Game
from schemas.records import Experience, Window, WindowFile
from streams.archiver.store import ArchiveError, ArchiveStore
from streams.archiver.windows import SealedWindow

Compression = Literal["zstd", "lz4", "none"]

_DICTIONARY = [
    "game",
    "world",
    "episode",
    "actor_id",
    "archetype",
    "domain",
    "opponent_id",
    "policy_version",
    "reward_version",
    "status",
]
"""Columns that repeat; decision ids and vectors do not, and would fill a dictionary for nothing."""


def window_path(window_id: str) -> str:
    """Return the path of a window's file below the archive's root."""
    return f"{window_id}.parquet"


def store_window(
    store: ArchiveStore, sealed: SealedWindow, game: Game, compression: Compression
) -> Window:
    """Write a window's file, unless it is there already, and return what is announced.

    A file that holds these very rows is kept, so that a library that writes other bytes for them
    after an upgrade cannot change a file that was announced.

    Raises:
        ArchiveError: a row's vector has another length than the game's description says, or other
            rows lie under the window's name.
    """
    digest = rows_digest(sealed.rows)
    path = window_path(sealed.window_id)
    data = store.get(path)
    if data is None or not _is_kept(data, path, digest):
        data = parquet_bytes(sealed, game, digest, compression)
        store.put(path, data)
    file = WindowFile(path=path, n_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    return describe(sealed, digest, file)


def describe(sealed: SealedWindow, digest: str, file: WindowFile) -> Window:
    """Return the announcement of a sealed window."""
    rows = sealed.rows
    times = [row.decision_time_ms for row in rows]
    return Window(
        window_id=sealed.window_id,
        game=sealed.game,
        archetype=sealed.archetype,
        partition=sealed.partition,
        n_rows=len(rows),
        digest=digest,
        files=[file],
        first_origin=rows[0].origin,
        last_origin=rows[-1].origin,
        min_time_ms=min(times),
        max_time_ms=max(times),
        reward_versions=sorted({row.reward_version for row in rows}),
        policy_versions=dict(sorted(Counter(row.policy_version for row in rows).items())),
        rule=sealed.rule,
    )


def parquet_bytes(
    sealed: SealedWindow, game: Game, digest: str, compression: Compression = "zstd"
) -> bytes:
    """Return a window as a Parquet file; the same bytes for the same rows and library versions."""
    try:
        table = rows_to_table(sealed.rows, game.observation.size, game.actions.n)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        msg = (
            f"window {sealed.window_id} must have the vectors that {game.name} describes; "
            f"got {error}: archive under another URL after the layout has changed"
        )
        raise ArchiveError(msg) from error
    notes = {"window_id": sealed.window_id, "rows_digest": digest}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(notes),
        sink,
        row_group_size=max(len(sealed.rows), 1),
        version="2.6",
        data_page_version="1.0",
        compression=compression,
        compression_level=1 if compression == "zstd" else None,
        use_dictionary=_DICTIONARY,
        write_statistics=True,
        store_schema=True,
    )
    return bytes(sink.getvalue())


def read_table(data: bytes, path: str) -> pa.Table:
    """Return the table of a file's bytes.

    Raises:
        ArchiveError: they are no Parquet file.
    """
    try:
        return pq.read_table(pa.BufferReader(data), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        msg = f"{path} must be a Parquet file of a window; got {error}"
        raise ArchiveError(msg) from error


def read_rows(data: bytes, path: str) -> list[Experience]:
    """Return the rows of a file's bytes; raises `ArchiveError` as `read_table` does."""
    return table_to_rows(read_table(data, path))


def _is_kept(data: bytes, path: str, digest: str) -> bool:
    """Whether a file that is there already holds the rows of that digest, undamaged.

    Raises:
        ArchiveError: it holds others.
    """
    try:
        table = read_table(data, path)
        found = rows_digest(table_to_rows(table))
    except (ArchiveError, pa.ArrowException, ValueError, KeyError, TypeError):
        return False
    if found == digest:
        return True
    if (table.schema.metadata or {}).get(b"rows_digest") != found.encode():
        return False
    msg = (
        f"{path} must hold the rows of digest {digest}; it holds {found}: the archive is of "
        f"another log or other window rules (give a new archive_url)"
    )
    raise ArchiveError(msg)
