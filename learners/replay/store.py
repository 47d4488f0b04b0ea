"""Columns of rings, in memory or as memory-mapped files of a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_LINE = 64
"""Bytes, on x86-64 and most ARM."""

Shapes = Mapping[str, tuple[tuple[int, ...], str]]


def allocate(shapes: Shapes, n_models: int, folder: Path | None) -> dict[str, NDArray[Any]]:
    """Return columns [S, ...] of zeros whose memory, or disk, is taken only where it is written."""
    return {
        name: _zeros((n_models, *shape), np.dtype(dtype), folder, name)
        for name, (shape, dtype) in shapes.items()
    }


def allocate_packed(
    shapes: Shapes, n_models: int, folder: Path | None
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Return columns that lie row by row, as records [S * C] and as views [S, C, ...] by name.

    What a batch needs of a row is then one look-up in memory, not one a column.
    """
    fields = [(name, dtype, shape[1:]) for name, (shape, dtype) in shapes.items()]
    record = np.dtype(fields, align=True)
    n_rows = next(iter(shapes.values()))[0][0]
    records = _zeros((n_models, n_rows), record, folder, "packed")
    return records.reshape(-1), {name: records[name] for name in shapes}


def _zeros(
    shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None, name: str
) -> NDArray[Any]:
    if folder is None or 0 in shape:
        return aligned_zeros(shape, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    mapped = np.memmap(folder / f"{name}.bin", dtype, "w+", shape=shape)
    return mapped.view(np.ndarray)  # without the price of the subclass


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return zeros that begin with a cache line, so that no row touches one line more than needed.

    numpy's own begin 16 bytes into a page.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    raw = np.zeros(n_bytes + CACHE_LINE, np.uint8)
    first = -raw.ctypes.data % CACHE_LINE
    return raw[first : first + n_bytes].view(dtype).reshape(shape)
