"""Folders that appear whole or not at all, and checkpoints as such folders; nothing is pickled."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import torch
from safetensors.torch import load, save

STALE_S = 600.0
"""A folder written aside for so long belongs to a process that was killed."""

TENSORS, STATE = "tensors.safetensors", "state.json"

State = TypeVar("State", bound=msgspec.Struct)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be continued: altered, or made with other settings."""


def write_checkpoint(
    path: Path,
    tensors: dict[str, torch.Tensor],
    state: Callable[[str], msgspec.Struct],
    keep: int,
) -> Path:
    """Write a checkpoint and let all but the newest ``keep`` beside it go; returns its path.

    ``state`` is given the SHA-256 of the tensors' file, which the state has to name. Names of
    checkpoints sort by age.
    """
    data = save(tensors)
    document = msgspec.json.encode(state(hashlib.sha256(data).hexdigest()))
    written = write_folder(path, {TENSORS: data, STATE: document})
    _prune(path.parent, keep)
    return written


def read_state(path: Path, kind: type[State]) -> State:
    """Return a checkpoint's state.

    Raises:
        CheckpointError: it is gone, or no such state.
    """
    try:
        return msgspec.json.decode((path / STATE).read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        text = f"{path / STATE} must be a checkpoint's state; got {error}"
        raise CheckpointError(text) from error


def read_tensors(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors.

    Raises:
        CheckpointError: the file is not the one that the state names.
    """
    try:
        data = (path / TENSORS).read_bytes()
    except OSError as error:
        text = f"{path / TENSORS} must be readable; got {error}"
        raise CheckpointError(text) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        text = f"{path / TENSORS} must be of SHA-256 {sha256}; got {digest}"
        raise CheckpointError(text)
    return load(data)


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    """Write files into a folder that appears whole or not at all; an existing one is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    for name, data in files.items():
        with (aside / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    aside.chmod(0o755)
    if path.exists():
        shutil.rmtree(path)
    aside.rename(path)
    _sync_folder(path.parent)
    return path


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints below a folder, the newest first."""
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.name[0] != "." and (p / STATE).is_file())
    return sorted(found, reverse=True)


def _prune(folder: Path, keep: int) -> None:
    """Remove all but the newest checkpoints, and what a killed process left half written."""
    stale = time.time() - STALE_S
    halves = (p for p in folder.iterdir() if p.name[0] == ".")
    for path in [*checkpoints(folder)[keep:], *(p for p in halves if _written_at(p) < stale)]:
        shutil.rmtree(path, ignore_errors=True)  # another learner may be at it too


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
