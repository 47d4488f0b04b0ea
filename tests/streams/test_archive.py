"""Window files: the same bytes each time, whole or not there, checked when they are read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from schemas.arrow import rows_digest
from schemas.columns import rows_to_table
from schemas.records import Experience, Origin, Place, Window, WindowRule
from streams.archive import read_archive, read_archive_tables, read_rows, read_window
from streams.archiver.files import make_window, store_window
from streams.archiver.state import load_progress, save_progress, state_path
from streams.archiver.store import ArchiveError, ArchiveStore
from streams.archiver.windows import Progress, SealedWindow
from tests.streams.streamkit import experience, toy_game

RULE = WindowRule(max_rows=40, max_span_ms=100)


def _sealed(n: int = 40, first: int = 0, partition: int = 0) -> SealedWindow[list[Experience]]:
    rows = [experience(Origin(partition, first + i, 0), i) for i in range(n)]
    return SealedWindow(
        partition=partition,
        game="toy",
        archetype="wolf",
        rule=RULE,
        first=rows[0].origin,
        last=rows[-1].origin,
        rows=rows,
    )


def _store(folder: Path, n_windows: int = 1) -> tuple[ArchiveStore, list[Window]]:
    store = ArchiveStore.open(str(folder))
    sealed = [_sealed(first=100 * i, partition=i % 2) for i in range(n_windows)]
    return store, [store_window(store, s, toy_game(), "zstd") for s in sealed]


@pytest.mark.parametrize("compression", ["zstd", "lz4", "none"])
def test_parquet_bytes_are_the_same_each_time_and_give_the_rows_back(compression: str) -> None:
    made = [
        make_window(_sealed(), toy_game(), "lz4" if compression == "lz4" else "zstd").data
        for _ in range(3)
    ]
    assert made[0] == made[1] == made[2]
    assert read_rows(made[0], "x") == _sealed().rows


def test_store_window_describes_what_it_wrote(tmp_path: Path) -> None:
    store, (window,) = _store(tmp_path)
    assert window.window_id == "toy/wolf/p0/0.0"
    assert window.files[0].path == "toy/wolf/p0/0.0.parquet"
    assert (window.n_rows, window.min_time_ms, window.max_time_ms) == (40, 1_000, 1_039)
    assert (window.first_origin, window.last_origin) == (Origin(0, 0, 0), Origin(0, 39, 0))
    assert (window.policy_versions, window.reward_versions) == ({"v0": 40}, ["toy@1"])
    assert read_window(store, window) == _sealed().rows
    assert not list(tmp_path.rglob("*.tmp"))


def test_store_window_keeps_a_file_that_holds_the_rows(tmp_path: Path) -> None:
    store, (window,) = _store(tmp_path)
    other = make_window(_sealed(), toy_game(), "lz4").data
    store.put(window.files[0].path, other)  # as an older library may have written it
    again = store_window(store, _sealed(), toy_game(), "zstd")
    assert store.get(window.files[0].path) == other
    assert again.digest == window.digest
    assert again.files[0].n_bytes == len(other)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"x" * 500])
def test_store_window_writes_a_damaged_file_anew(tmp_path: Path, damage: bytes) -> None:
    store, (window,) = _store(tmp_path)
    store.put(window.files[0].path, damage)
    assert store_window(store, _sealed(), toy_game(), "zstd") == window
    assert read_window(store, window) == _sealed().rows


def test_store_window_refuses_an_archive_of_another_log(tmp_path: Path) -> None:
    store, _ = _store(tmp_path)
    with pytest.raises(ArchiveError, match="another log or other window rules"):
        store_window(store, _sealed(n=39), toy_game(), "zstd")


def test_store_window_refuses_vectors_that_the_game_does_not_have(tmp_path: Path) -> None:
    rows = [experience(Origin(0, 0, 0), observation=b"\0" * 12)]
    sealed = msgspec.structs.replace(_sealed(), rows=rows)
    with pytest.raises(ArchiveError, match="must have the vectors that toy describes"):
        store_window(ArchiveStore.open(str(tmp_path)), sealed, toy_game(), "zstd")


def test_read_archive_goes_by_partition_and_origin(tmp_path: Path) -> None:
    _store(tmp_path, 12)
    rows: list[Experience] = list(read_archive(tmp_path.as_uri(), "toy", "wolf"))
    origins = [row.origin for row in rows]
    assert len(rows) == 480
    assert origins == sorted(origins)
    assert sum(table.num_rows for table in read_archive_tables(str(tmp_path))) == 480
    assert list(read_archive(str(tmp_path), "chess")) == []
    with pytest.raises(ValueError, match="game must be given"):
        list(read_archive(str(tmp_path), archetype="wolf"))


def test_read_archive_tells_other_rows_and_other_files(tmp_path: Path) -> None:
    store, (window,) = _store(tmp_path)
    sink = pa.BufferOutputStream()
    table = rows_to_table(_sealed().rows, 4, 3).replace_schema_metadata({"rows_digest": "00ff"})
    pq.write_table(table, sink)
    store.put("toy/wolf/p0/0.0.parquet", bytes(sink.getvalue()))
    with pytest.raises(ArchiveError, match="must hold the rows of digest 00ff; it holds"):
        list(read_archive(str(tmp_path)))
    with pytest.raises(ArchiveError, match="bytes of SHA-256"):
        read_window(store, window)
    store.put("toy/wolf/p0/0.0.parquet", b"nonsense")
    with pytest.raises(ArchiveError, match="must be a Parquet file"):
        list(read_archive(str(tmp_path)))
    (tmp_path / "toy/wolf/p0/0.0.parquet").unlink()
    with pytest.raises(ArchiveError, match="it is missing"):
        read_window(store, window)


def test_digests_of_an_older_algorithm_are_compared_and_of_an_unknown_one_refused(
    tmp_path: Path,
) -> None:
    store, (window,) = _store(tmp_path)
    path, rows = window.files[0].path, _sealed().rows
    for digest in (rows_digest(rows, like="00ff"), "blake9:00ff"):
        sink = pa.BufferOutputStream()
        noted = rows_to_table(rows, 4, 3).replace_schema_metadata({"rows_digest": digest})
        pq.write_table(noted, sink)
        store.put(path, bytes(sink.getvalue()))
        assert store_window(store, _sealed(), toy_game(), "lz4").digest == window.digest
        assert store.get(path) == bytes(sink.getvalue())  # whatever it says, it holds the rows
        if ":" not in digest:
            assert list(read_archive(str(tmp_path))) == rows
            with pytest.raises(ArchiveError, match="another log or other window rules"):
                store_window(store, _sealed(n=39), toy_game(), "lz4")
            continue
        with pytest.raises(ArchiveError, match="got blake9: of a newer Grindstone"):
            list(read_archive(str(tmp_path)))
        with pytest.raises(ArchiveError, match="got blake9: of a newer Grindstone"):
            store_window(store, _sealed(n=39), toy_game(), "lz4")


def test_store_works_on_an_object_store() -> None:
    memory = fs._MockFileSystem() if hasattr(fs, "_MockFileSystem") else None
    if memory is None:
        pytest.skip("this pyarrow has no file system in memory")
    memory.create_dir("bucket/archive/toy/wolf/p0", recursive=True)
    store = ArchiveStore(memory, "bucket/archive")
    window = store_window(store, _sealed(), toy_game(), "zstd")
    assert read_window(store, window) == _sealed().rows
    assert store.names("", ".parquet") == ["toy/wolf/p0/0.0.parquet"]
    assert store.get("nothing") is None


def test_store_refuses_urls_it_cannot_open() -> None:
    with pytest.raises(ArchiveError, match="archive_url must be .*; got gopher://x"):
        ArchiveStore.open("gopher://x")


def test_progress_survives_and_never_goes_back(tmp_path: Path) -> None:
    store = ArchiveStore.open(str(tmp_path))
    assert load_progress(store, "t", 3) is None
    sealed = {"toy/wolf": Origin(3, 8, 1)}
    progress = Progress(partition=3, place=Place(9, Origin(3, 8, 2)), sealed=sealed)
    assert save_progress(store, "t", progress)
    assert load_progress(store, "t", 3) == progress
    stale = Progress(partition=3, place=Place(4))
    assert not save_progress(store, "t", stale)
    assert load_progress(store, "t", 3) == progress


@pytest.mark.parametrize("data", [b"", b"{}", b'{"v":1,"topic":"t","progress":{"partition":3}}'])
def test_progress_that_is_damaged_is_refused(tmp_path: Path, data: bytes) -> None:
    store = ArchiveStore.open(str(tmp_path))
    store.put(state_path("t", 3), data)
    with pytest.raises(ArchiveError, match=r"_state/t-p3.json must be .* remove it"):
        load_progress(store, "t", 3)


def test_progress_of_another_topic_is_refused(tmp_path: Path) -> None:
    store = ArchiveStore.open(str(tmp_path))
    save_progress(store, "other", Progress(partition=3, place=Place(4)))
    data = store.get(state_path("other", 3))
    store.put(state_path("t", 3), data or b"")
    with pytest.raises(ArchiveError, match="version 1 of t partition 3"):
        load_progress(store, "t", 3)


def test_two_archivers_may_write_one_window_at_once(tmp_path: Path) -> None:
    async def work() -> list[Window]:
        store = ArchiveStore.open(str(tmp_path))
        jobs = [
            asyncio.to_thread(store_window, store, _sealed(), toy_game(), "zstd") for _ in range(8)
        ]
        return list(await asyncio.gather(*jobs))

    made = asyncio.run(work())
    assert all(window == made[0] for window in made)
    assert not list(tmp_path.rglob("*.tmp"))
