"""Sealed windows as Parquet files with the same bytes each time, and back."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.arrow import FACT_COLUMNS, RowsDigest, experience_schema, rows_digest, table_to_rows
from schemas.columns import Columns
from schemas.game import Game
from schemas.packed import PackedRows, pack
from schemas.records import Experience, Window, WindowFile, encode_row
from streams.archive import read_table
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
_STATISTICS = [
    *("origin_partition", "origin_offset", "origin_index", "step"),
    *("decision_time_ms", "settled_time_ms", "revision", "action", "total", *_DICTIONARY),
]
"""Columns that readers filter by; the least and the greatest vector help no one."""
_FEW = ["game", "world", "archetype", "domain", "policy_version", "reward_version", "status"]
_NAMES = [f"{name}.key_value.key" for name in FACT_COLUMNS]
"""Of these and of facts' names a window has a few: they are given to Parquet as the dictionaries
that it would make."""


def window_path(window_id: str) -> str:
    """Return the path of a window's file below the archive's root."""
    return f"{window_id}.parquet"


class WindowContent(msgspec.Struct, frozen=True, kw_only=True):
    """A window's file and what its rows say."""

    data: pa.Buffer
    """Parquet."""
    digest: str
    min_time_ms: int
    max_time_ms: int
    reward_versions: list[str]
    policy_versions: dict[str, int]


def store_window(
    store: ArchiveStore,
    sealed: SealedWindow[PackedRows] | SealedWindow[list[Experience]],
    game: Game,
    compression: Compression,
) -> Window:
    """Write a window's file, unless it is there already, and return what is announced.

    A file that holds these very rows is kept, so that a library that writes other bytes for them
    after an upgrade cannot change a file that was announced.

    Raises:
        ArchiveError: a row's vector has another length than the game's description says, or other
            rows lie under the window's name.
    """
    content = make_window(sealed, game, compression)
    path = window_path(sealed.window_id)
    data = store.get(path)
    if data is None or not _is_kept(data, path, content.digest):
        data = content.data
        store.put(path, data)
    file = WindowFile(path=path, n_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    return describe(sealed, content, file)


def describe(
    sealed: SealedWindow[PackedRows] | SealedWindow[list[Experience]],
    content: WindowContent,
    file: WindowFile,
) -> Window:
    """Return the announcement of a sealed window."""
    return Window(
        window_id=sealed.window_id,
        game=sealed.game,
        archetype=sealed.archetype,
        partition=sealed.partition,
        n_rows=len(sealed.rows),
        digest=content.digest,
        files=[file],
        first_origin=sealed.first,
        last_origin=sealed.last,
        min_time_ms=content.min_time_ms,
        max_time_ms=content.max_time_ms,
        reward_versions=content.reward_versions,
        policy_versions=content.policy_versions,
        rule=sealed.rule,
    )


def make_window(
    sealed: SealedWindow[PackedRows] | SealedWindow[list[Experience]],
    game: Game,
    compression: Compression = "lz4",
) -> WindowContent:
    """Return a window as a Parquet file; the same bytes for the same rows and library versions.

    Raises:
        ArchiveError: a row's vector has another length than the game's description says.
    """
    columns = _columns(game.observation.size, game.actions.n)
    rows = sealed.rows
    packed = rows if isinstance(rows, PackedRows) else pack([encode_row(row) for row in rows])
    digest, told, sink = RowsDigest(), _Told(), pa.BufferOutputStream()
    try:
        with archive_writer(sink, columns.schema, compression) as writer:
            for batch in columns.batches(packed.chunks(), digest):
                told.take(batch)
                writer.write_batch(batch, row_group_size=batch.num_rows)
            writer.add_key_value_metadata(
                {"window_id": sealed.window_id, "rows_digest": digest.hexdigest()}
            )
    except (pa.ArrowException, msgspec.MsgspecError) as error:
        msg = (
            f"window {sealed.window_id} must have the vectors that {game.name} describes; "
            f"got {error}: archive under another URL after the layout has changed"
        )
        raise ArchiveError(msg) from error
    return WindowContent(
        data=sink.getvalue(),
        digest=digest.hexdigest(),
        min_time_ms=min(told.times_ms),
        max_time_ms=max(told.times_ms),
        reward_versions=sorted(told.rewards),
        policy_versions=dict(sorted(told.policies.items())),
    )


@lru_cache(maxsize=16)
def _columns(n_observation: int, n_actions: int) -> Columns:
    return Columns(written(experience_schema(n_observation, n_actions)))


def written(schema: pa.Schema) -> pa.Schema:
    """Return the types that windows are made in: what a window has a few of is there once."""
    repeated = pa.dictionary(pa.int32(), pa.string())
    types = dict.fromkeys(_FEW, repeated)
    types |= dict.fromkeys(FACT_COLUMNS, pa.map_(repeated, pa.float64()))
    return pa.schema([f.with_type(types.get(f.name, f.type)) for f in schema])


class _Told:
    """What an announcement says of a window's rows."""

    def __init__(self) -> None:
        self.times_ms: list[int] = []
        self.rewards: set[str] = set()
        self.policies: Counter[str] = Counter()

    def take(self, batch: pa.RecordBatch) -> None:
        self.times_ms += pc.min_max(batch.column("decision_time_ms")).as_py().values()
        self.rewards.update(batch.column("reward_version").dictionary.to_pylist())
        policies = batch.column("policy_version")
        counts = np.bincount(policies.indices).tolist()
        self.policies.update(dict(zip(policies.dictionary.to_pylist(), counts, strict=True)))


def archive_writer(
    sink: pa.BufferOutputStream,
    schema: pa.Schema,
    compression: Compression,
    *,
    store_schema: bool = False,
) -> pq.ParquetWriter:
    """Return a writer of windows: what is kept as a dictionary, and what has statistics.

    Parquet tells of all types that windows have; to read Arrow's own schema, too, costs 7 % of a
    small window. Types that Parquet does not know (lists of a fixed size) need ``store_schema``.
    """
    return pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        data_page_version="1.0",
        compression=compression,
        compression_level=1 if compression == "zstd" else None,
        use_dictionary=_DICTIONARY + _NAMES,
        write_statistics=_STATISTICS,
        store_schema=store_schema,
    )


def _is_kept(data: bytes, path: str, digest: str) -> bool:
    """Whether a file that is there already holds the rows of that digest, undamaged.

    Raises:
        ArchiveError: it holds others.
    """
    try:
        table = read_table(data, path)
        rows = table_to_rows(table)
        found = rows_digest(rows)
    except (ArchiveError, pa.ArrowException, ValueError, KeyError, TypeError):
        return False
    if found == digest:
        return True
    noted = (table.schema.metadata or {}).get(b"rows_digest", b"").decode()
    try:
        if rows_digest(rows, like=noted) != noted:
            return False
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ArchiveError(msg) from error
    msg = (
        f"{path} must hold the rows of digest {digest}; it holds {found}: the archive is of "
        f"another log or other window rules (give a new archive_url)"
    )
    raise ArchiveError(msg)
