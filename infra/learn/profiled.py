"""Where the time of a training goes: practice, updates, judgement, export, and operators."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from infra.learn.rows import make_layout, make_world

if TYPE_CHECKING:
    from learners.training.plan import Plan


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What `learn profile` found for one type."""

    type: str
    archetypes: list[str]
    device: str
    parameters: int
    """Of one model."""
    update_ms: float
    """Median of a step of the whole stack."""
    practise_ms: float
    """Of one call; 0 where the type does not practise."""
    judge_ms: float
    export_ms: float
    """Of one model, traced, in three forms, measured."""
    whole_minutes: float
    """What the preset's training would take: updates, practice and eight judgements."""
    peak_gb: float
    operators: list[dict[str, Any]]
    """The dearest of torch's operators: `name`, `calls`, `own_ms`, `share` of the time of all."""


def profile(
    plan: Plan, rows: dict[str, Path], updates: int, on_phase: Callable[[str], None]
) -> Profile:
    """Take a few steps of a training and tell what they cost.

    Raises:
        LearnError: rows or settings cannot be used.
    """
    from learners.training.deliver import Renderer, Wanted
    from learners.training.machine import describe
    from learners.training.operators import dearest
    from learners.training.rows import read_rows
    from learners.training.run import Training

    some = [read_rows(rows[archetype]) for archetype in plan.archetypes]
    world = make_world(plan.archetypes)
    training = Training(plan, make_layout(), some, world)
    stack, settings = training.stack, plan.type_settings()
    on_phase("practice")
    practise_ms = _timed(lambda: stack.practise(world, 1)) if settings.practice_matches else 0.0
    on_phase("updates")
    for _ in range(3):
        stack.update()  # what is allocated once
    steps = sorted(_timed(stack.update) for _ in range(max(3, updates)))
    on_phase("operators")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it tells of a GPU that is not there
    operators = dearest(stack.update, min(5, updates), training.plan.device)
    on_phase("judgement")
    judge_ms = _timed(lambda: stack.judge(training.held_out))
    on_phase("export")
    renderer = Renderer(plan.kind, make_layout(), stack)
    export_ms = _timed(lambda: renderer.render(0, training.held_out[0], Wanted()))
    update_ms = steps[len(steps) // 2]
    calls = settings.updates / settings.practise_every if practise_ms else 0.0
    whole = settings.updates * update_ms + calls * practise_ms + 8 * judge_ms
    return Profile(
        type=plan.type, archetypes=plan.archetypes, device=describe(plan.device),
        parameters=sum(p.numel() for m in stack.modules().values() for p in m.parameters())
        // stack.n_models,
        update_ms=update_ms, practise_ms=practise_ms, judge_ms=judge_ms, export_ms=export_ms,
        whole_minutes=whole / 60_000.0, peak_gb=training.peak_bytes / 1e9,
        operators=[msgspec.structs.asdict(operator) for operator in operators],
    )  # fmt: skip


def _timed(work: Callable[[], Any]) -> float:
    """Return the milliseconds that something takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def render_text(found: Profile) -> str:
    """Return a profile as text."""
    lines = [
        f"{found.type} on {found.device}: models {len(found.archetypes)}, parameters of each"
        f" {found.parameters:,}",
        f"  update {found.update_ms:.1f} ms, practice {found.practise_ms:,.0f} ms a call, judgement"
        f" {found.judge_ms:,.0f} ms, export {found.export_ms:,.0f} ms a model",
        f"  a whole training: about {found.whole_minutes:.1f} minutes; {found.peak_gb:.2f} GB",
    ]
    lines += [
        f"  {o['share']:6.1%}  {o['own_ms']:8.2f} ms  {o['calls']:5d} x {o['name']}"
        for o in found.operators
    ]
    return "\n".join(lines)
