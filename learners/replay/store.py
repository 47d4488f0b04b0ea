"""Columns of rings, in memory or as memory-mapped files of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        return np.zeros(shape, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    mapped = np.memmap(folder / f"{name}.bin", dtype, "w+", shape=shape)
    return mapped.view(np.ndarray)  # without the price of the subclass
