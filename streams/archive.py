"""An archive read back: rows or Arrow tables, each checked against what was announced."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.arrow import rows_digest, table_to_rows
from schemas.records import Experience, Window
from streams.archiver.store import ArchiveError, ArchiveStore

_NAME = re.compile(r"^(?P<key>.+)/p(?P<partition>\d+)/(?P<offset>\d+)\.(?P<index>\d+)\.parquet$")


def read_archive(
    url: str, game: str | None = None, archetype: str | None = None
) -> Iterator[Experience]:
    """Yield the rows of an archive, window by window, in order within each partition.

    The digest of each window's rows is checked before the first of them is given.

    Args:
        url: as in `ArchiverSettings.archive_url`.
        game: only this game.
        archetype: only this archetype of the game; `game` must be given, too.

    Raises:
        ArchiveError: a file is no window, or holds other rows than were written.
    """
    for path, table in _tables(url, game, archetype):
        rows = table_to_rows(table)
        _check_digest(path, rows, _note(table, b"rows_digest"))
        yield from rows


def read_archive_tables(
    url: str, game: str | None = None, archetype: str | None = None
) -> Iterator[pa.Table]:
    """Yield a table for each window, as `read_archive` does but with no digest computed.

    Raises:
        ArchiveError: a file is no window.
    """
    for _, table in _tables(url, game, archetype):
        yield table


def read_window(store: ArchiveStore, window: Window) -> list[Experience]:
    """Return the rows of an announced window, checked against its announcement.

    Raises:
        ArchiveError: a file is missing, has other bytes than announced, or holds other rows.
    """
    rows: list[Experience] = []
    for file in window.files:
        rows += table_to_rows(read_table(check_file(store, window, file.path), file.path))
    _check_digest(window.window_id, rows, window.digest)
    return rows


def read_table(data: bytes, path: str) -> pa.Table:
    """Return the table of a file's bytes.

    Raises:
        ArchiveError: they are no Parquet file.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        notes = {k: v for k, v in file.metadata.metadata.items() if k != b"ARROW:schema"}
        return file.read(use_threads=False).replace_schema_metadata(notes)
    except (pa.ArrowException, OSError) as error:
        msg = f"{path} must be a Parquet file of a window; got {error}"
        raise ArchiveError(msg) from error


def read_rows(data: bytes, path: str) -> list[Experience]:
    """Return the rows of a file's bytes; raises `ArchiveError` as `read_table` does."""
    return table_to_rows(read_table(data, path))


def check_file(store: ArchiveStore, window: Window, path: str) -> bytes:
    """Return the bytes of one of a window's files, checked against its announcement.

    Raises:
        ArchiveError: the file is missing or has other bytes than announced.
    """
    file = next(f for f in window.files if f.path == path)
    data = store.get(path)
    if data is None:
        msg = f"{path} must be in the archive; it is missing (restore it from a copy)"
        raise ArchiveError(msg)
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        msg = (
            f"{path} must have {file.n_bytes} bytes of SHA-256 {file.sha256}; it has {len(data)} "
            f"of {found} (restore it from a copy, or archive the topic anew under another URL)"
        )
        raise ArchiveError(msg)
    return data


def _tables(url: str, game: str | None, archetype: str | None) -> Iterator[tuple[str, pa.Table]]:
    if archetype is not None and game is None:
        msg = f"game must be given with archetype {archetype}"
        raise ValueError(msg)
    store = ArchiveStore.open(url)
    folder = "/".join(part for part in (game, archetype) if part is not None)
    found = [m for name in store.names(folder, ".parquet") if (m := _NAME.match(name))]
    found.sort(key=lambda m: (m["key"], *(int(m[g]) for g in ("partition", "offset", "index"))))
    for match in found:
        data = store.get(match[0])
        if data is not None:
            yield match[0], read_table(data, match[0])


def _note(table: pa.Table, name: bytes) -> str:
    notes: dict[bytes, bytes] = table.schema.metadata or {}
    return notes.get(name, b"").decode()


def _check_digest(path: str, rows: list[Experience], wanted: str) -> None:
    try:
        found = rows_digest(rows, like=wanted)
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ArchiveError(msg) from error
    if found != wanted:
        msg = f"{path} must hold the rows of digest {wanted or '?'}; it holds {found}"
        raise ArchiveError(msg)
