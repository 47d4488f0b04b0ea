"""Columns of rings, in memory or as memory-mapped files of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def allocate(
    shapes: Mapping[str, tuple[tuple[int, ...], str]], n_models: int, folder: Path | None
) -> dict[str, NDArray[Any]]:
    """Return columns [S, ...] of zeros whose memory, or disk, is taken only where it is written."""
    if folder is None:
        return {k: np.zeros((n_models, *shape), dtype) for k, (shape, dtype) in shapes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, NDArray[Any]] = {}
    for name, (shape, dtype) in shapes.items():
        size = (n_models, *shape)
        if 0 in size:
            columns[name] = np.zeros(size, dtype)  # nothing to map
            continue
        mapped = np.memmap(folder / f"{name}.bin", dtype, "w+", shape=size)
        columns[name] = mapped.view(np.ndarray)  # without the price of the subclass
    return columns
