"""One model's training as a function of its windows: no clock, no process, no Kafka."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from learners.algorithms import ALGORITHMS
from learners.replay.buffer import PrioritisedReplay
from learners.replay.rows import WindowRows
from learners.settings import ModelSettings
from schemas.records import Window

HELD_OUT = 256
"""Observations kept aside from the newest windows, on which an export is compared with torch."""

SMOOTHING = 0.02
"""Weight of the newest update in the reported loss, error and value."""


@dataclasses.dataclass(slots=True)
class Lineage:
    """Which part of the log the weights were made from."""

    n_windows: int = 0
    n_rows: int = 0
    last_window: str = ""
    offsets: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """`game-events` partition -> first and last offset."""
    reward_versions: list[str] = dataclasses.field(default_factory=list)
    policy_rows: dict[str, int] = dataclasses.field(default_factory=dict)
    """Rows by behaviour policy."""

    def add(self, window: Window) -> None:
        """Count a window."""
        self.n_windows += 1
        self.n_rows += window.n_rows
        self.last_window = window.window_id
        partition = str(window.first_origin.partition)
        first, last = window.first_origin.offset, window.last_origin.offset
        known = self.offsets.get(partition, (first, last))
        self.offsets[partition] = (min(known[0], first), max(known[1], last))
        self.reward_versions = sorted({*self.reward_versions, *window.reward_versions})
        for version, n in window.policy_versions.items():
            self.policy_rows[version] = self.policy_rows.get(version, 0) + n


class Trainer:
    """Folds windows into replay and takes the gradient steps they owe.

    Every row folded once ``min_rows`` transitions are held owes ``updates_per_row`` steps. The
    weights after step k are a function of the settings and the windows' order, on one kind of CPU.
    """

    def __init__(self, settings: ModelSettings, device: torch.device | None = None) -> None:
        """Begin with no rows and weights drawn from the seed."""
        learner = settings.learner
        self.settings = settings
        self.algorithm = ALGORITHMS[learner.algorithm](settings, device or torch.device("cpu"))
        self.replay = PrioritisedReplay(
            settings.shape, learner.replay_rows, n_step=learner.n_step, discount=learner.discount,
            alpha=learner.priority_alpha, beta=learner.priority_beta,
            storage=learner.observation_dtype, kept=learner.keep_first_rows,
        )  # fmt: skip
        self.rng = np.random.default_rng(settings.derived_seed("replay"))
        self.lineage = Lineage()
        self.n_updates = 0
        self.owed = 0.0
        self.windows: dict[int, Window] = {}
        """Windows by number whose rows the replay still needs."""
        self.measures: dict[str, float] = {}
        self._held_out: deque[WindowRows] = deque(maxlen=4)

    def fold(self, window: Window, rows: WindowRows) -> int:
        """Take the next window's rows; returns how many transitions were added."""
        number = self.lineage.n_windows
        was_ready = self.ready
        n_completed = self.replay.fold(rows, number)
        self.lineage.add(window)
        self.windows[number] = window
        self._forget()
        if self.ready and not was_ready:
            n = self.settings.learner.min_rows
            self.algorithm.fit_normaliser(self.replay.observations(n))
        if self.ready:
            self.owed += len(rows) * self.settings.learner.updates_per_row
        self.hold_out(rows)
        return n_completed

    @property
    def ready(self) -> bool:
        """Whether enough transitions are held to learn from."""
        return len(self.replay) >= self.settings.learner.min_rows

    @property
    def n_owed(self) -> int:
        """Gradient steps that the rows folded so far still owe."""
        return math.floor(self.owed)

    def update(self) -> None:
        """Take one owed gradient step."""
        batch = self.replay.sample(self.settings.learner.batch, self.rng)
        result = self.algorithm.update(batch)
        self.replay.set_errors(batch.slots, result.errors)
        self.n_updates += 1
        self.owed -= 1.0
        self._measure("loss", result.loss)
        self._measure("margin_loss", result.margin_loss)
        self._measure("td_error", float(np.abs(result.errors).mean()))
        self._measure("q_mean", result.q_mean)

    def due_registration(self) -> bool:
        """Whether a version is to be made after the step just taken."""
        learner = self.settings.learner
        beyond = self.n_updates - learner.register_after_updates
        return beyond >= 0 and beyond % learner.register_every_updates == 0

    def due_checkpoint(self) -> bool:
        """Whether a checkpoint is to be written after the step just taken."""
        return self.n_updates % self.settings.learner.checkpoint_every_updates == 0

    def held_out(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return real observations [N, D] and masks [N, A] of the newest windows."""
        observations = np.concatenate([r.observation for r in self._held_out])[-HELD_OUT:]
        legal = np.concatenate([r.legal for r in self._held_out])[-HELD_OUT:]
        return np.ascontiguousarray(observations), legal.astype(np.bool_)

    def hold_out(self, rows: WindowRows) -> None:
        """Keep the last rows of a window for `held_out`."""
        if len(rows):
            n = min(len(rows), HELD_OUT)
            self._held_out.append(rows.take(np.arange(len(rows) - n, len(rows))))

    def needed_windows(self) -> set[int]:
        """Return numbers of the windows that the replay stands on."""
        return self.replay.windows()

    def measured(self) -> dict[str, float]:
        """Return what the metrics say of this model."""
        return {
            "updates": float(self.n_updates),
            "owed_updates": float(self.n_owed),
            "windows": float(self.lineage.n_windows),
            "rows": float(self.lineage.n_rows),
            "replay_rows": float(len(self.replay)),
            **{f"dropped_{k}": float(v) for k, v in self.replay.dropped.items()},
            **self.measures,
        }

    def state_numbers(self) -> dict[str, Any]:
        """Return the plain state: counters, generator, lineage."""
        return {
            "n_updates": self.n_updates,
            "owed": self.owed,
            "rng": json.dumps(self.rng.bit_generator.state),  # has integers of 128 bits
            "lineage": dataclasses.asdict(self.lineage),
            "measures": self.measures,
        }

    def restore_numbers(self, state: dict[str, Any]) -> None:
        """Take `state_numbers`."""
        self.n_updates, self.owed = state["n_updates"], state["owed"]
        self.rng.bit_generator.state = json.loads(state["rng"])
        lineage = dict(state["lineage"])
        lineage["offsets"] = {k: (v[0], v[1]) for k, v in lineage["offsets"].items()}
        self.lineage = Lineage(**lineage)
        self.measures = dict(state["measures"])

    def _forget(self) -> None:
        """Let go of windows that nothing stands on any more, now and then."""
        if self.lineage.n_windows % 16 == 0:
            needed = self.needed_windows()
            self.windows = {k: v for k, v in self.windows.items() if k in needed}

    def _measure(self, name: str, value: float) -> None:
        known = self.measures.get(name, value)
        self.measures[name] = known + SMOOTHING * (value - known)
