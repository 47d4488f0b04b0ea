"""Checkpoints: all of a trainer but the observations, which are read back from their windows.

A checkpoint is one folder, written aside, synced and renamed: `tensors.safetensors` (weights,
optimiser, priorities and the ring's places) and `state.json` (counters, generator, chains, windows
with their digests, cursors). Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from learners.folders import (
    CheckpointError,
    checkpoints,
    read_state,
    read_tensors,
    write_checkpoint,
)
from learners.replay.rows import WindowReader
from learners.settings import ModelSettings
from learners.trainer import Trainer
from schemas.records import Window

__all__ = [
    "CheckpointError",
    "Cursor",
    "checkpoints",
    "load_checkpoint",
    "read_cursor",
    "save_checkpoint",
]


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
    layout: Literal[2]
    """Of the replay's columns; a checkpoint of an earlier release is refused."""
    settings_digest: str
    tensors_sha256: str
    cursor: Cursor
    numbers: dict[str, Any]
    windows: dict[int, Window]


def save_checkpoint(folder: Path, trainer: Trainer, cursor: Cursor) -> Path:
    """Write a checkpoint below ``folder``, let old ones go and return its path."""
    tensors = trainer.algorithm.state()
    tensors |= {k: torch.from_numpy(v) for k, v in trainer.replay.state().items()}
    needed = trainer.needed_windows()
    name = f"{trainer.n_updates:09d}-{trainer.lineage.n_windows:09d}"

    def state(sha256: str) -> _State:
        return _State(
            layout=2,
            settings_digest=trainer.settings.digest(),
            tensors_sha256=sha256,
            cursor=cursor,
            numbers=trainer.state_numbers(),
            windows={k: v for k, v in sorted(trainer.windows.items()) if k in needed},
        )

    return write_checkpoint(
        folder / name, tensors, state, trainer.settings.learner.keep_checkpoints
    )


def read_cursor(path: Path) -> Cursor:
    """Return a checkpoint's cursor without loading the rest."""
    return read_state(path, _State).cursor


def load_checkpoint(
    path: Path, settings: ModelSettings, reader: WindowReader, device: torch.device | None = None
) -> tuple[Trainer, Cursor]:
    """Return the trainer and cursor as they were; every window is read and verified again.

    Raises:
        CheckpointError: the checkpoint is damaged or was made with other settings.
        WindowError: a window it stands on is gone or altered.
    """
    state = read_state(path, _State)
    tensors = read_tensors(path, state.tensors_sha256)
    if settings.digest() != state.settings_digest:
        text = (
            f"{path} must be made with settings {settings.digest()}; got {state.settings_digest}"
            " (settings changed: move the folder away to train anew from the windows)"
        )
        raise CheckpointError(text)
    trainer = Trainer(settings, device)
    trainer.algorithm.restore(tensors)
    trainer.replay.restore({k: v.numpy() for k, v in tensors.items() if k.startswith("replay.")})
    trainer.restore_numbers(state.numbers)
    trainer.windows = dict(state.windows)
    for number, window in sorted(state.windows.items()):
        rows = reader.read(window)
        trainer.replay.fill(number, rows)
        trainer.hold_out(rows)
    return trainer, state.cursor
