"""Real inputs for an exported graph, taken from rows: to trace, verify and time it with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.model_types.base import LearnError, Port
from schemas.practice import Episodes, Head

Feeds = dict[str, NDArray[Any]]
"""Arrays [B, ...] by the name of a port."""


def feeds(
    ports: Sequence[Port],
    rows: Episodes,
    n: int,
    *,
    head: Head | None = None,
    length: int = 1,
    zeros: Mapping[str, tuple[int, ...]] | None = None,
) -> Feeds:
    """Return n inputs, spread over the rows, for ports that are named as the rows' columns are.

    Args:
        ports: of the graph; one whose shape begins with None takes ``length`` rows of one actor in
            order, [B, T, ...], the last of them the row that is asked about.
        rows: where real values come from.
        n: inputs wanted; fewer where there are fewer rows.
        head: whose action and legal choices "action" and "legal" mean.
        length: rows of a sequence.
        zeros: shapes without the batch of what no column holds, as the states of a first step;
            a bool port "known" is true for each row that is there.

    Raises:
        LearnError: a port is neither a column nor in ``zeros``.
    """
    ends = _ends(rows, length)
    ends = ends[np.linspace(0, len(ends) - 1, min(n, len(ends))).astype(np.int64)]
    places = ends[:, None] + np.arange(1 - length, 1)
    found: Feeds = {}
    for port in ports:
        shape = (zeros or {}).get(port.name)
        if shape is not None:
            found[port.name] = np.zeros((len(ends), *shape), port.dtype)
        elif port.name == "known":
            found[port.name] = np.ones(places.shape, np.bool_)
        else:
            column = _column(rows, port.name, head)
            sequence = bool(port.shape) and port.shape[0] is None
            found[port.name] = np.ascontiguousarray(
                column[places if sequence else ends], dtype=port.dtype
            )
    return found


def _ends(rows: Episodes, length: int) -> NDArray[np.int64]:
    """Return rows with ``length - 1`` earlier ones of the same episode."""
    order = np.arange(len(rows))
    begun = np.maximum.accumulate(np.where(rows.first, order, 0))
    found: NDArray[np.int64] = np.flatnonzero(order - begun >= length - 1)
    if not len(found):
        msg = f"rows must hold an episode of {length} steps; got none"
        raise LearnError(msg)
    return found


def _column(rows: Episodes, name: str, head: Head | None) -> NDArray[Any]:
    column = getattr(rows, name, None)
    if isinstance(column, dict):
        column = None if head is None else column[head]
    if column is None:
        msg = f"input {name} must be a column of the rows or one of zeros; got neither"
        raise LearnError(msg)
    found: NDArray[Any] = column
    return found
