"""Memory of rings' columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from learners.replay.store import CACHE_LINE, aligned_zeros, allocate


@pytest.mark.parametrize("shape", [(3, 5), (1 << 16, 8)])
def test_aligned_zeros_begin_with_a_cache_line(shape: tuple[int, ...]) -> None:
    for dtype in (np.dtype(np.float32), np.dtype([("after", "i4"), ("done", "?")], align=True)):
        zeros = aligned_zeros(shape, dtype)
        assert zeros.shape == shape
        assert zeros.dtype == dtype
        assert zeros.ctypes.data % CACHE_LINE == 0
        assert not zeros.view(np.uint8).any()


def test_columns_are_the_same_in_memory_and_in_files(tmp_path: Path) -> None:
    shapes = {"vector": ((7, 3), "float16"), "legal": ((7, 0), "uint8")}
    for folder in (None, tmp_path):
        columns = allocate(shapes, 2, folder)
        assert {name: column.shape for name, column in columns.items()} == {
            "vector": (2, 7, 3), "legal": (2, 7, 0),
        }  # fmt: skip
        assert all(not column.any() for column in columns.values())
