"""One model in the hands of a learner process: trainer, cursor, checkpoints and versions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import torch

from learners.checkpoint import (
    CheckpointError,
    Cursor,
    checkpoints,
    load_checkpoint,
    read_cursor,
    save_checkpoint,
)
from learners.export import (
    OnnxTemplate,
    check_parity,
    holds_version,
    read_files,
    weights_of,
    write_version,
)
from learners.networks import value_ports
from learners.replay.rows import WindowError, WindowReader
from learners.settings import ModelSettings
from learners.trainer import Trainer
from schemas.model_events import Registered
from schemas.records import Window, WindowFile

Taken = Literal["folded", "repeated", "passed"]


class Workplace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a learner reads and writes."""

    archive: str
    """Root of the windows' files: a path or a `pyarrow.fs` URI."""
    models: Path
    checkpoints: Path
    code_version: str

    def checkpoint_folder(self, settings: ModelSettings) -> Path:
        """Return the folder of a model's checkpoints; other settings have another folder."""
        return self.checkpoints / settings.model / settings.digest()[:16]


class ModelSession:
    """Takes windows, works off the updates they owe, writes versions and checkpoints.

    No Kafka here: what is to be announced is returned, and `announced` says that it was.
    """

    def __init__(
        self, settings: ModelSettings, place: Workplace, device: torch.device | None = None
    ) -> None:
        """Go on from the newest sound checkpoint, or begin at the first window."""
        self.settings, self._place = settings, place
        self._folder = place.checkpoint_folder(settings)
        learner = settings.learner
        self._reader = WindowReader(place.archive, settings.shape, learner.demonstration_policy)
        self.refused: list[str] = []
        """Why checkpoints or windows were passed over; the process reports and empties it."""
        self.trainer, self.cursor = self._resume(device)
        self.pending: Registered | None = None
        self._template: OnnxTemplate | None = None
        self._saved_at = self.trainer.n_updates
        self.snapshot = self.trainer.measured()

    def _resume(self, device: torch.device | None) -> tuple[Trainer, Cursor]:
        for path in checkpoints(self._folder):
            try:
                return load_checkpoint(path, self.settings, self._reader, device)
            except (CheckpointError, WindowError) as error:
                self.refused.append(f"checkpoint {path.name}: {error}")
        return Trainer(self.settings, device), Cursor()

    def take(self, window: Window, partition: int, offset: int) -> Taken:
        """Fold the window announced at an offset of `replay-windows`.

        Returns:
            "folded"; "passed" when the checkpoint is already behind this offset; "repeated" when
            the window was announced again.

        Raises:
            WindowError: the window cannot be trained on; the cursor has moved past it.
        """
        cursor = self.cursor
        if cursor.partition == partition and offset < cursor.next_offset:
            return "passed"
        source = str(window.partition)
        last = (window.last_origin.offset, window.last_origin.index)
        repeated = last <= cursor.last_windows.get(source, (-1, -1))
        seen = cursor.last_windows if repeated else {**cursor.last_windows, source: last}
        self.cursor = Cursor(
            partition=partition, next_offset=offset + 1, last_windows=seen,
            n_registered=cursor.n_registered,
        )  # fmt: skip
        if repeated:
            return "repeated"
        self.trainer.fold(window, self._reader.read(window))
        self.snapshot = self.trainer.measured()
        return "folded"

    @property
    def labels(self) -> dict[str, str]:
        """Return what its metrics are labelled with."""
        return {"model": self.settings.model, "game": self.settings.game}

    @property
    def asks(self) -> list[str]:
        """Return models whose champion is wanted: none, for it trains its own weights on."""
        return []

    def answer(self, champions: Mapping[str, str]) -> None:
        """Take what was not asked for."""

    @property
    def busy(self) -> bool:
        """Whether updates are owed or a version waits to be announced."""
        return self.pending is not None or self.trainer.n_owed > 0

    def work(self, seconds: float) -> Registered | None:
        """Take owed gradient steps for about so long; returns a version to announce, if one is due.

        The time only decides where to pause, never what is computed.
        """
        deadline = time.monotonic() + seconds
        trainer = self.trainer
        while self.pending is None and trainer.n_owed > 0:
            trainer.update()
            if trainer.due_registration():
                self.pending = self._make_version()
            elif trainer.due_checkpoint():
                self.save()
            if time.monotonic() >= deadline:
                break
        self.snapshot = trainer.measured()
        return self.pending

    def announced(self) -> None:
        """Take note that the pending version is on `models`."""
        self.pending = None
        cursor = self.cursor
        self.cursor = Cursor(
            partition=cursor.partition, next_offset=cursor.next_offset,
            last_windows=cursor.last_windows, n_registered=cursor.n_registered + 1,
        )  # fmt: skip
        self.save()

    def save(self) -> None:
        """Write a checkpoint; not while a version waits, for it would be lost on resume."""
        if self.pending is None and self.cursor.partition >= 0:
            save_checkpoint(self._folder, self.trainer, self.cursor)

    def _make_version(self) -> Registered:
        graph = self.trainer.algorithm.policy
        weights = weights_of(graph)
        if self._template is None:
            self._template = OnnxTemplate(graph, *value_ports(self.settings.shape))
        model = self._template.render(weights)
        observation, legal = self.trainer.held_out()
        expected = self.trainer.algorithm.values(observation, legal)
        parity = check_parity(model, [expected], {"observation": observation, "legal": legal})
        version, folder = self._free_folder(weights)
        metrics = {
            **self.trainer.measures,
            "parity_max_error": parity.max_error,
            "parity_agreement": parity.agreement,
        }
        event = self._event(version, metrics)
        if holds_version(folder, weights):
            files = read_files(folder)
        else:
            fields = msgspec.to_builtins(event)
            for name in ("type", "files", "time_ms"):  # the folder is a function of the log
                del fields[name]
            files = write_version(folder, model, weights, fields)
        return self._stamped(event, files)

    def _free_folder(self, weights: dict[str, torch.Tensor]) -> tuple[str, Path]:
        """Return the next version's name and folder; never one that holds other weights."""
        number = self.cursor.n_registered + 1
        while True:
            version = f"v{number:04d}"
            folder = self._place.models / self.settings.model / version
            if not folder.exists() or holds_version(folder, weights):
                return version, folder
            number += 1

    def _event(self, version: str, metrics: dict[str, float]) -> Registered:
        settings, lineage = self.settings, self.trainer.lineage
        return Registered(
            model=settings.model,
            version=version,
            time_ms=0,
            game=settings.game,
            archetype=settings.archetype,
            algorithm=settings.learner.algorithm,
            folder=f"{settings.model}/{version}",
            files=[],
            source_offsets=dict(lineage.offsets),
            n_windows=lineage.n_windows,
            last_window=lineage.last_window,
            n_rows=lineage.n_rows,
            n_updates=self.trainer.n_updates,
            reward_versions=lineage.reward_versions,
            seed=settings.seed,
            settings=settings.values(),
            settings_digest=settings.digest(),
            code_version=self._place.code_version,
            metrics=metrics,
        )

    @staticmethod
    def _stamped(event: Registered, files: list[WindowFile]) -> Registered:
        now = time.time_ns() // 1_000_000
        return msgspec.structs.replace(event, files=files, time_ms=now)


def resume_offset(place: Workplace, settings: ModelSettings, partition: int) -> int:
    """Return from which offset of a partition a model needs its windows; 0 when from the first."""
    for path in checkpoints(place.checkpoint_folder(settings)):
        try:
            cursor = read_cursor(path)
        except CheckpointError:
            continue  # the session says so when it opens the checkpoint
        return cursor.next_offset if cursor.partition == partition else 0
    return 0
