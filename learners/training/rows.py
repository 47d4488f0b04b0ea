"""Episodes as files and digests: what a training learned from, to be read again and proven."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from learners.folders import write_folder
from learners.model_types.base import LearnError
from schemas.practice import Episodes

ROWS, ABOUT = "rows.safetensors", "about.json"


class _About(msgspec.Struct, frozen=True, kw_only=True):
    sha256: str
    digest: str
    n_rows: int
    made_from: dict[str, Any]


def columns_of(rows: Episodes) -> dict[str, NDArray[Any]]:
    """Return the columns by name; those of a head are named ``action.combat`` and so on."""
    found: dict[str, NDArray[Any]] = {}
    for field in dataclasses.fields(rows):
        value = getattr(rows, field.name)
        if isinstance(value, dict):
            found |= {f"{field.name}.{head}": column for head, column in value.items()}
        elif value is not None:
            found[field.name] = value
    return found


def rows_of(columns: dict[str, NDArray[Any]]) -> Episodes:
    """Return the rows whose `columns_of` are these."""
    values: dict[str, Any] = {"maps": None}
    for name, column in columns.items():
        field, _, head = name.partition(".")
        if head:
            values.setdefault(field, {})[head] = column
        else:
            values[field] = column
    return Episodes(**values)


def rows_digest(rows: Episodes) -> str:
    """Return 32 hex digits over names, types, shapes and bytes of all columns."""
    digest = hashlib.blake2b(digest_size=16)
    for name, column in sorted(columns_of(rows).items()):
        digest.update(f"{name}\0{column.dtype.str}\0{column.shape}\0".encode())
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def check_rows(rows: Episodes, where: str) -> None:
    """Refuse rows that would poison weights.

    Raises:
        LearnError: there are none, a number is not finite, a propensity is out of range, or an
            action was illegal.
    """
    if not len(rows):
        msg = f"{where} must hold rows; got none"
        raise LearnError(msg)
    for name, column in columns_of(rows).items():
        if len(column) != len(rows):
            msg = f"{where}.{name} must be of {len(rows)} rows; got {len(column)}"
            raise LearnError(msg)
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            bad = int(np.argmax(~np.isfinite(column.reshape(len(rows), -1)).all(1)))
            msg = f"{where}.{name} must be finite; got nan or inf in row {bad}"
            raise LearnError(msg)
    for head, action in rows.action.items():
        n = rows.legal[head].shape[1]
        out = (action < 0) | (action >= n)
        if out.any():
            bad = int(np.argmax(out))
            msg = f"{where}.action.{head} must be in 0..{n - 1}; got {action[bad]} in row {bad}"
            raise LearnError(msg)
        illegal = ~rows.legal[head][np.arange(len(rows)), action]
        if illegal.any():
            bad = int(np.argmax(illegal))
            msg = f"{where}.action.{head} must be legal; got {action[bad]} in row {bad}"
            raise LearnError(msg)


def write_rows(folder: Path, rows: Episodes, made_from: dict[str, Any]) -> Path:
    """Write rows into a folder of their own, whole or not at all; returns it."""
    data = save({k: np.ascontiguousarray(v) for k, v in columns_of(rows).items()})
    about = _About(
        sha256=hashlib.sha256(data).hexdigest(),
        digest=rows_digest(rows),
        n_rows=len(rows),
        made_from=made_from,
    )
    return write_folder(folder, {ROWS: data, ABOUT: msgspec.json.encode(about)})


def read_rows(folder: Path) -> Episodes:
    """Return the rows of a folder, verified.

    Raises:
        LearnError: a file is missing or altered.
    """
    try:
        about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=_About)
        data = (folder / ROWS).read_bytes()
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{folder} must hold rows; got {error}"
        raise LearnError(msg) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != about.sha256:
        msg = f"{folder / ROWS} must be of SHA-256 {about.sha256}; got {digest}"
        raise LearnError(msg)
    return rows_of(load(data))


def rows_made_from(folder: Path) -> dict[str, Any] | None:
    """Return what a folder's rows were made from; None where there are none."""
    try:
        return msgspec.json.decode((folder / ABOUT).read_bytes(), type=_About).made_from
    except (OSError, msgspec.MsgspecError):
        return None


def rows_told(folder: Path) -> dict[str, Any]:
    """Return what a plan says of rows: their digest, how many, and what they were made from.

    Raises:
        LearnError: there are none.
    """
    try:
        about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=_About)
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{folder} must hold rows; got {error}"
        raise LearnError(msg) from error
    return {"digest": about.digest, "n_rows": about.n_rows, **about.made_from}
