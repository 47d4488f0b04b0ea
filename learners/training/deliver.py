"""Trained models as versions: graph in the form that is served, weights, and a manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file

from learners.export import (
    MANIFEST,
    MODEL,
    WEIGHTS,
    ExportError,
    OnnxTemplate,
    as_served,
    outputs_of,
    weights_of,
    write_version,
)
from learners.exporting import FORMS, Form, Measured, choose, make_form, measure, optimise
from learners.model_types.base import LearnError, ModelType, Stack
from learners.training.plan import Plan
from learners.training.run import Training
from learners.training.weights import Weights, model_weights, put_rows, stacked_weights
from schemas.practice import Episodes, Layout

VERIFIED = 512
"""Held-out inputs on which a form is compared with torch."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What to export."""

    forms: tuple[Form, ...] = FORMS
    """Forms to choose among; one is taken whatever its speed."""
    optimise: bool = False
    """Fold constants into the file itself, which onnxruntime else does when it is loaded."""
    verify: bool = True
    """Compare with torch, and time; without it the first form is taken."""
    by_speed: bool = True
    """Whether timings choose among the forms that are near enough; else the first of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rendered:
    """A model's graph as it is to be served."""

    model: bytes
    form: Form
    measured: list[Measured]
    weights: Weights


class Renderer:
    """Makes the graphs of one stack's models; the architecture is traced once."""

    def __init__(self, kind: ModelType, layout: Layout, stack: Stack) -> None:
        """Take the stack whose models are to be exported."""
        self._inputs, self._outputs = kind.inputs(layout), kind.outputs(layout)
        self._stack = stack
        self._template: OnnxTemplate | None = None

    def full(self, i: int, rows: Episodes) -> tuple[bytes, torch.nn.Module, dict[str, Any]]:
        """Return model i's graph in float32, torch's own, and real inputs."""
        graph = self._stack.graph(i)
        feeds = self._stack.feeds(rows, VERIFIED)
        feeds = {port.name: feeds[port.name] for port in self._inputs}
        served = as_served(graph)
        if self._template is None:
            self._template = OnnxTemplate(served, self._inputs, self._outputs, feeds)
        return self._template.render(weights_of(served)), graph, feeds

    def render(self, i: int, rows: Episodes, wanted: Wanted) -> Rendered:
        """Return model i's graph in the form that measurement chooses.

        Raises:
            ExportError: no form that was asked for is near enough to torch.
        """
        full, graph, feeds = self.full(i, rows)
        if wanted.optimise:
            full = optimise(full)
        forms = {form: make_form(full, form, feeds) for form in wanted.forms}
        weights = model_weights(self._stack, i)
        if not wanted.verify:
            form = wanted.forms[0]
            return Rendered(forms[form], form, [], weights)
        measured = measure(forms, outputs_of(graph, feeds), feeds)
        fit = [m for m in measured if m.fit]
        by_speed = wanted.by_speed or not fit
        chosen = choose(measured, wanted.forms) if by_speed else fit[0]
        return Rendered(forms[chosen.form], chosen.form, measured, weights)


def version_manifest(
    kind: ModelType, layout: Layout, plan: Plan, i: int, n_updates: int, rendered: Rendered
) -> dict[str, Any]:
    """Return what a version's manifest says of how it was made and what it takes and gives."""
    return {
        "archetype": plan.archetypes[i],
        "type": plan.type,
        "acts": kind.acts,
        "algorithm": plan.type,
        "inputs": [msgspec.to_builtins(p) for p in kind.inputs(layout)],
        "outputs": [msgspec.to_builtins(p) for p in kind.outputs(layout)],
        "plan": msgspec.to_builtins(plan),
        "plan_digest": plan.digest(),
        "settings": plan.settings,
        "seed": plan.seed,
        "n_updates": n_updates,
        "form": rendered.form,
        "forms": [msgspec.to_builtins(m) for m in rendered.measured],
    }


def deliver(
    training: Training,
    layout: Layout,
    wanted: Wanted,
    place: Callable[[str], Path],
    more: Sequence[Mapping[str, Any]],
    refused: dict[str, str] | None = None,
) -> dict[str, Path]:
    """Write a version of each model of a finished training; returns their folders by archetype.

    Args:
        training: after `Training.run`.
        layout: of its world.
        wanted: forms to choose among.
        place: archetype -> a folder that is not there yet.
        more: what else each manifest holds, one a model.
        refused: takes why a model has no version: its graph does not do what torch does. Without
            it, that is an error.

    Raises:
        ExportError: no form of a model is near enough to torch, and there is no ``refused``.
    """
    plan = plan_of_weights(training)
    renderer = Renderer(training.kind, layout, training.stack)
    folders: dict[str, Path] = {}
    for i, archetype in enumerate(plan.archetypes):
        try:
            rendered = renderer.render(i, training.held_out[i], wanted)
        except ExportError as error:
            if refused is None:
                raise
            refused[archetype] = str(error)
            continue
        folder = place(archetype)
        manifest = version_manifest(
            training.kind, layout, plan, i, training.progress.n_updates, rendered
        )
        manifest |= {"optimised": wanted.optimise, "version": folder.name, **more[i]}
        write_version(folder, rendered.model, rendered.weights, manifest)
        folders[archetype] = folder
    return folders


def plan_of_weights(training: Training) -> Plan:
    """Return the plan that makes these very weights: stopped where this training was."""
    plan, n = training.plan, training.progress.n_updates
    if training.finished or n == 0:
        return plan
    return msgspec.structs.replace(plan, stop_after=n)


class VersionInfo(msgspec.Struct, frozen=True):
    """What is read of a version's manifest."""

    model: str
    version: str
    archetype: str
    type: str
    plan: Plan
    n_updates: int
    form: Form
    optimised: bool
    files: dict[str, dict[str, Any]]
    code_version: str = ""
    forms: list[Measured] = []
    quality: dict[str, Any] = {}
    metrics: dict[str, float] = {}


def read_version(folder: Path) -> VersionInfo:
    """Return a version's manifest.

    Raises:
        LearnError: it is no version that a model type made.
    """
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=VersionInfo)
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{folder / MANIFEST} must be the manifest of a trained model type; got {error}"
        raise LearnError(msg) from error


def version_weights(folder: Path) -> Weights:
    """Return the weights of a version's networks, without S.

    Raises:
        LearnError: they cannot be read.
    """
    try:
        return dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError) as error:
        msg = f"{folder / WEIGHTS} must hold a version's weights; got {error}"
        raise LearnError(msg) from error


def load_stack(
    folders: Sequence[Path],
    layout: Layout,
    device: str = "cpu",
    rows: Sequence[Episodes] | None = None,
) -> Stack:
    """Return versions of one type and equal settings as one stack, to act or to be judged.

    ``rows`` are those that each model learned from: some types judge others by them.

    Raises:
        LearnError: they differ in type or settings, or their weights are of other shapes.
    """
    infos = [read_version(folder) for folder in folders]
    first = infos[0].plan
    for info in infos[1:]:
        if (info.plan.type, info.plan.settings) != (first.type, first.settings):
            msg = f"versions must be of one type and its settings; got {info.model} and another"
            raise LearnError(msg)
    seeds = [info.plan.seed for info in infos]
    stack = first.kind.make(
        first.type_settings(), layout, seeds, [1.0] * len(infos), torch.device(device)
    )
    if rows is not None:
        stack.fit(rows)  # before the weights are put in: it fixes normalisers
    into = stacked_weights(stack)
    for i, folder in enumerate(folders):
        weights = version_weights(folder)
        if {k: tuple(v.shape[1:]) for k, v in into.items()} != {
            k: tuple(v.shape) for k, v in weights.items()
        }:
            msg = f"{folder / WEIGHTS} must have the shapes of {first.type}; got others"
            raise LearnError(msg)
        picked = [j == i for j in range(len(folders))]
        put_rows(into, {k: v.expand(len(folders), *v.shape) for k, v in weights.items()}, picked)
    return stack


__all__ = [
    "MODEL",
    "Renderer",
    "Rendered",
    "VersionInfo",
    "Wanted",
    "deliver",
    "load_stack",
    "read_version",
    "version_manifest",
    "version_weights",
]
