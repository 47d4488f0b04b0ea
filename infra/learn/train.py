"""Trainings of several types side by side: rows first, then a process a type, then one report."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from infra.code_version import code_version
from infra.learn.asked import Asked
from infra.learn.job import Job, Made, Told, run_job
from infra.learn.rows import ensure_rows, make_layout
from infra.learn.versions import find_version
from infra.settings import Settings
from schemas.errors import refuse
from streams.pool import run_all

if TYPE_CHECKING:
    from learners.training.plan import Plan


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What trainings came to; written as JSON, as a page and as a table."""

    game: str = "arena"
    preset: str
    seed: int
    samples: int
    device: str
    code_version: str
    seconds: float
    """Wall time of all, rows, evaluation and export included."""
    parallel: int
    trainings: list[Made]
    failed: dict[str, str] = {}
    """Type -> why nothing came of it."""

    @property
    def complete(self) -> bool:
        """Whether every model that was asked for has a version."""
        return not self.failed and all(
            len(made.folders) == len(made.plan["archetypes"]) for made in self.trainings
        )


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Where trainings read and write, and what is exported."""

    resume: bool = False
    forms: tuple[str, ...] = ("fp16", "fp32", "int8")
    optimise: bool = False
    verify: bool = True


def train(
    settings: Settings,
    asked: Asked,
    work: Work,
    on_told: Callable[[Told], None],
    on_rows: Callable[[str], None] = lambda archetype: None,
    warm: Mapping[str, Any] | None = None,
) -> Report:
    """Train the types for the archetypes that were asked for and return what came of it.

    ``warm`` has the fields of `learners.training.plan.WarmStart`.
    """
    from learners.training.machine import describe, device_name

    began = time.monotonic()
    try:
        device = device_name(asked.device)
    except ValueError as error:
        refuse("--device", "cpu or auto without a CUDA device", asked.device, str(error))
    parallel = min(asked.parallel or _cores(), len(asked.types))
    jobs = make_jobs(settings, asked, work, device, parallel, on_rows, warm)
    ended = run_all(jobs, run_job, parallel, on_told, modules(asked.types))
    return Report(
        preset=asked.preset, seed=asked.seed, samples=asked.samples, device=describe(device),
        code_version=code_version(), seconds=time.monotonic() - began, parallel=parallel,
        trainings=[end for end in ended if isinstance(end, Made)],
        failed={
            name: str(end) or type(end).__name__
            for name, end in zip(asked.types, ended, strict=True)
            if isinstance(end, Exception)
        },
    )  # fmt: skip


def modules(types: Sequence[str]) -> list[str]:
    """Return what a job imports while it runs."""
    from learners.model_types.registry import module_of

    return [
        "games.arena.practice", "infra.learn.versions", "learners.training.deliver",
        "learners.training.machine", "learners.training.quality", "learners.scalars",
        *(module_of(name) for name in types),
    ]  # fmt: skip


def make_jobs(
    settings: Settings,
    asked: Asked,
    work: Work,
    device: str,
    parallel: int,
    on_rows: Callable[[str], None],
    warm: Mapping[str, Any] | None = None,
) -> list[Job]:
    """Return a job for each type, its rows recorded; every setting is checked before."""
    from learners.model_types.base import wants_maps

    plans = {name: make_plan(name, asked, device, {}, warm) for name in asked.types}
    data = Path(settings.data_dir)
    jobs = []
    for name, plan in plans.items():
        maps = wants_maps(plan.kind, make_layout())
        folders = _rows(settings, asked, maps, on_rows)
        plan = make_plan(name, asked, device, folders, warm)
        checkpoints = settings.checkpoints_dir / "learn"
        if not work.resume:
            forget(checkpoints / name, plan)
        jobs.append(
            Job(
                plan=msgspec.json.encode(plan),
                rows=[str(folders[a]) for a in asked.archetypes],
                models=str(settings.models_dir.resolve()),
                checkpoints=str(checkpoints.resolve()),
                scalars=str((data / "learn" / "tensorboard").resolve()),
                code_version=code_version(),
                threads=max(1, _cores() // parallel),
                amp=asked.amp,
                seconds=_budget(asked, parallel),
                evaluate_matches=asked.evaluate_matches,
                forms=work.forms,
                optimise=work.optimise,
                verify=work.verify,
                sources=_sources(settings.models_dir, plan),
                resume=work.resume,
            )  # fmt: skip
        )
    return jobs


def _sources(models: Path, plan: Plan) -> dict[str, str]:
    """Return the folders of the versions that a plan begins from."""
    if plan.warm is None:
        return {}
    return {
        archetype: str(find_version(models, name, "--from"))
        for archetype, name in plan.warm.versions.items()
    }


def _rows(
    settings: Settings, asked: Asked, maps: bool, on_rows: Callable[[str], None]
) -> dict[str, Path]:
    data = Path(settings.data_dir)
    if asked.source == "scripted":
        return ensure_rows(data, asked.archetypes, asked.samples, asked.seed, maps, on_rows)
    from infra.learn.windows import ensure_recorded

    windows = settings.windows_dir
    return ensure_recorded(windows, data, asked.archetypes, asked.samples, maps, on_rows)


def forget(folder: Path, plan: Plan) -> None:
    """Remove what earlier runs of a plan left to go on from, in either precision."""
    (folder / f"{plan.digest()[:16]}.amp").unlink(missing_ok=True)
    for amp in (False, True):
        digest = msgspec.structs.replace(plan, amp=amp).digest()
        shutil.rmtree(folder / digest[:16], ignore_errors=True)


def make_plan(
    name: str,
    asked: Asked,
    device: str,
    rows: Mapping[str, Path],
    warm: Mapping[str, Any] | None,
) -> Plan:
    """Return the plan of one type.

    Raises:
        LearnError: a setting breaks a rule of the type.
    """
    from learners.model_types.registry import model_type
    from learners.training.curriculum import WIN_LEVELS
    from learners.training.plan import Plan, WarmStart, settings_of

    kind = model_type(name)
    values = {**msgspec.to_builtins(kind.preset(asked.preset)), **asked.changes()}
    if asked.epochs is not None:
        values["updates"] = max(1, round(asked.epochs * asked.samples / values["batch"]))
    settings_of(kind, values)
    return Plan(
        type=name, archetypes=list(asked.archetypes), preset=asked.preset, settings=values,
        seed=asked.seed, device="cuda" if device == "cuda" else "cpu", amp=asked.amp == "on",
        judge_every=max(1, -(-values["updates"] // 8)),
        judge_matches=asked.judge_matches if kind.acts is not None else 0,
        patience=asked.patience, memory_gb=asked.memory_gb,
        curriculum=WIN_LEVELS if asked.curriculum == "levels" else None,
        rows={a: _told_of(folder) for a, folder in rows.items()},
        warm=msgspec.convert(dict(warm), WarmStart) if warm is not None else None,
    )  # fmt: skip


def _told_of(folder: Path) -> dict[str, Any]:
    from learners.training.rows import rows_told

    return rows_told(folder)


def _budget(asked: Asked, parallel: int) -> float | None:
    if asked.minutes is None:
        return None
    rounds = -(-len(asked.types) // parallel)
    return asked.minutes * 60.0 / rounds


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def names_of(archetypes: Sequence[str] | None) -> tuple[str, ...]:
    """Return archetypes without repeats, all where none is named."""
    from schemas.practice import ARCHETYPES

    return tuple(dict.fromkeys(archetypes or ())) or ARCHETYPES
