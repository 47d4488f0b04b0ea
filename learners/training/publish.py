"""Versions of single models as folders and events, the same ones each time they are made."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from learners.export import holds_version, read_files, write_version
from learners.model_types.base import LearnError
from learners.training.deliver import (
    Renderer,
    Wanted,
    plan_of_weights,
    version_manifest,
    version_weights,
)
from learners.training.run import Training
from learners.training.weights import Weights, model_weights
from schemas.model_events import Registered
from schemas.practice import Layout

SERVED = Wanted(forms=("fp16", "fp32"), by_speed=False)
"""Half precision, or full where that is not near enough: no timing decides, so that a version that
is made again has the same bytes."""


_NAME = re.compile(r"^v(\d{4,})$")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where continuous training reads and writes."""

    game: str
    archive: str
    """Root of the windows' files: a path or a `pyarrow.fs` URI."""
    models: Path
    checkpoints: Path
    code_version: str

    def model(self, archetype: str, kind: str) -> str:
        """Return the name of a type's model for an archetype."""
        return f"{self.game}-{archetype}-{kind}"

    def weights(self, name: str) -> Weights:
        """Return the weights of ``model@version``.

        Raises:
            LearnError: they cannot be read.
        """
        model, _, version = name.partition("@")
        return version_weights(self.models / model / version)

    def newest(self, model: str) -> int:
        """Return the number of a model's newest version below the models folder; 0: there is none.

        Whoever made it: `learn train` and `learn transfer` write versions of the same models.
        """
        folder = self.models / model
        names = [p.name for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []
        return max((int(m.group(1)) for n in names if (m := _NAME.match(n))), default=0)


def version_number(version: str) -> int:
    """Return 7 of ``v0007``.

    Raises:
        LearnError: it is no version's name.
    """
    number = version.removeprefix("v")
    if not number.isdigit():
        msg = f"version must be v and a number; got {version!r}"
        raise LearnError(msg)
    return int(number)


def publish(
    training: Training, layout: Layout, place: Place, told: Mapping[str, Any], number: int
) -> Registered:
    """Write the version of a finished training of one model; returns its event.

    A folder with other weights is never overwritten: the number goes up instead. One with the same
    weights is the same version, made before a crash.

    Raises:
        ExportError: no form is near enough to torch.
    """
    plan = plan_of_weights(training)
    archetype = plan.archetypes[0]
    model = place.model(archetype, plan.type)
    weights = model_weights(training.stack, 0)
    folder = place.models / model / f"v{number:04d}"
    while folder.exists() and not holds_version(folder, weights):
        number += 1
        folder = place.models / model / f"v{number:04d}"
    judged = training.stack.judge(training.held_out)
    metrics = {k: float(np.asarray(v).ravel()[0]) for k, v in judged.items()}
    if holds_version(folder, weights):
        files = read_files(folder)
    else:
        renderer = Renderer(training.kind, layout, training.stack)
        rendered = renderer.render(0, training.held_out[0], SERVED)
        n_updates = training.progress.n_updates
        manifest = version_manifest(training.kind, layout, plan, 0, n_updates, rendered) | {
            "model": model, "version": folder.name, "game": place.game, "optimised": False,
            "code_version": place.code_version, "metrics": metrics, **told,
        }  # fmt: skip
        files = write_version(folder, rendered.model, rendered.weights, manifest)
    rows = plan.rows[archetype]
    return Registered(
        model=model, version=folder.name, time_ms=time.time_ns() // 1_000_000, game=place.game,
        archetype=archetype, algorithm=plan.type, folder=f"{model}/{folder.name}", files=files,
        source_offsets={k: (v[0], v[1]) for k, v in rows["offsets"].items()},
        n_windows=told["n_windows"], last_window=told["last_window"], n_rows=rows["n_rows"],
        n_updates=training.progress.n_updates, reward_versions=rows["reward_versions"],
        seed=plan.seed, settings=_plain(plan.settings), settings_digest=plan.digest(),
        code_version=place.code_version, metrics=metrics,
    )  # fmt: skip


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that an event can carry."""
    kept = (float, int, str, bool)
    found = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    return {
        k: v
        for k, v in found.items()
        if isinstance(v, kept) or (isinstance(v, list) and all(isinstance(x, int) for x in v))
    }
