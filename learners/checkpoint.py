"""Checkpoints: all of a trainer but the observations, which are read back from their windows.

A checkpoint is one folder, written aside, synced and renamed: `tensors.safetensors` (weights,
optimiser, priorities and the ring's places) and `state.json` (counters, generator, chains, windows
with their digests, cursors). Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load, save

from learners.replay.rows import WindowReader, WindowRows
from learners.settings import ModelSettings
from learners.trainer import Trainer
from schemas.records import Window

STALE_S = 600.0
"""A folder written aside for so long belongs to a process that was killed."""

TENSORS, STATE = "tensors.safetensors", "state.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be continued: altered, or made with other settings."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cursor:
    """How far a trainer has come in the log of windows."""

    partition: int = -1
    """Of `replay-windows`; -1 before the first window."""
    next_offset: int = 0
    last_windows: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Source partition -> (offset, index) of the last window's last row, to drop repeats."""
    n_registered: int = 0


class _State(msgspec.Struct, frozen=True, kw_only=True):
    settings_digest: str
    tensors_sha256: str
    cursor: Cursor
    numbers: dict[str, Any]
    windows: dict[int, Window]


def save_checkpoint(folder: Path, trainer: Trainer, cursor: Cursor) -> Path:
    """Write a checkpoint below ``folder``, let old ones go and return its path."""
    tensors = trainer.algorithm.state()
    tensors |= {k: torch.from_numpy(v) for k, v in trainer.replay.state().items()}
    data = save(tensors)
    needed = trainer.needed_windows()
    state = _State(
        settings_digest=trainer.settings.digest(),
        tensors_sha256=hashlib.sha256(data).hexdigest(),
        cursor=cursor,
        numbers=trainer.state_numbers(),
        windows={k: v for k, v in sorted(trainer.windows.items()) if k in needed},
    )
    files = {TENSORS: data, STATE: msgspec.json.encode(state)}
    name = f"{trainer.n_updates:09d}-{trainer.lineage.n_windows:09d}"
    path = write_folder(folder / name, files)
    _prune(folder, trainer.settings.learner.keep_checkpoints)
    return path


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


def read_cursor(path: Path) -> Cursor:
    """Return a checkpoint's cursor without loading the rest."""
    return _read_state(path).cursor


def _read_state(path: Path) -> _State:
    try:
        return msgspec.json.decode((path / STATE).read_bytes(), type=_State)
    except (OSError, msgspec.MsgspecError) as error:
        text = f"{path / STATE} must be a checkpoint's state; got {error}"
        raise CheckpointError(text) from error


def load_checkpoint(
    path: Path, settings: ModelSettings, reader: WindowReader, device: torch.device | None = None
) -> tuple[Trainer, Cursor]:
    """Return the trainer and cursor as they were; every window is read and verified again.

    Raises:
        CheckpointError: the checkpoint is damaged or was made with other settings.
        WindowError: a window it stands on is gone or altered.
    """
    state = _read_state(path)
    data = (path / TENSORS).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != state.tensors_sha256:
        text = f"{path / TENSORS} must be of SHA-256 {state.tensors_sha256}; got {digest}"
        raise CheckpointError(text)
    if settings.digest() != state.settings_digest:
        text = (
            f"{path} must be made with settings {settings.digest()}; got {state.settings_digest}"
            " (settings changed: move the folder away to train anew from the windows)"
        )
        raise CheckpointError(text)
    tensors = load(data)
    trainer = Trainer(settings, device)
    trainer.algorithm.restore(tensors)
    trainer.replay.restore({k: v.numpy() for k, v in tensors.items() if k.startswith("replay.")})
    trainer.restore_numbers(state.numbers)
    trainer.windows = dict(state.windows)
    _refill(trainer, state, reader)
    return trainer, state.cursor


def _refill(trainer: Trainer, state: _State, reader: WindowReader) -> None:
    """Read the windows in order; put their rows into the ring and the open chains."""
    chains = [
        (actor, episode, last_step, [(w, r) for w, r in places])
        for actor, episode, last_step, places in state.numbers["chains"]
    ]
    wanted = [place for chain in chains for place in chain[3]]
    carried: dict[tuple[int, int], WindowRows] = {}
    for number, window in sorted(state.windows.items()):
        rows = reader.read(window)
        trainer.replay.fill(number, rows)
        trainer.hold_out(rows)
        for place in (p for p in wanted if p[0] == number):
            carried[place] = rows.take(_index(place[1]))
    parts = [carried[place] for place in wanted]
    trainer.assembler.restore(chains, _joined(parts), state.numbers["dropped"])


def _index(row: int) -> Any:
    return torch.tensor([row]).numpy()


def _joined(parts: Iterable[WindowRows]) -> WindowRows | None:
    joined: WindowRows | None = None
    for part in parts:
        joined = part if joined is None else part.after(joined)
    return joined
