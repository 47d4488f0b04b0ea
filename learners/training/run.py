"""One type trained for S archetypes as one stack: practice, updates, judgements, checkpoints.

What comes out is a function of the plan, the rows and the code, on one kind of CPU: a training that
was killed and resumed makes the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from learners.folders import CheckpointError, checkpoints, read_state, read_tensors
from learners.folders import write_checkpoint as write
from learners.model_types.base import LearnError, Stack, Update
from learners.training.curriculum import Curriculum, StageState
from learners.training.judging import Measures, judge
from learners.training.memory import check_memory, limit_card, peak_bytes
from learners.training.plan import Plan
from learners.training.practice import GradedWorld
from learners.training.rows import check_rows
from learners.training.stopping import Plateau
from learners.training.weights import (
    Weights,
    copies,
    frozen_parameters,
    put_rows,
    stacked_weights,
    take_weights,
)
from schemas.practice import Episodes, Layout, Practice, split_by_match

REPORT_EVERY = 50
"""Updates whose means are one point of a curve."""

_PRACTICE = "practice/"
"""Before the names of what practice told: its last values stand, those of updates are averaged."""


class Point(msgspec.Struct, frozen=True):
    """Measures at an update, each a number a model."""

    update: int
    values: dict[str, list[float]]


class Progress(msgspec.Struct):
    """How far a training has come: all of its state but the tensors."""

    n_updates: int = 0
    n_practised: int = 0
    stages: list[StageState] = []
    curve: list[Point] = []
    """What updates and practice told, a point each `REPORT_EVERY` updates."""
    judged: list[Point] = []
    sums: dict[str, list[float]] = {}
    """Since the curve's last point, with the number of updates under "n"."""
    stopped_at: dict[int, int] = {}
    """Model -> update after which it got no better."""
    seconds: float = 0.0
    """Wall time of all runs together; nothing depends on it."""


class _State(msgspec.Struct, frozen=True, kw_only=True):
    plan_digest: str
    tensors_sha256: str
    progress: Progress


Tell = Callable[[Progress], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Hooks:
    """What happens beside a training; nothing here changes its result."""

    on_point: Callable[[Point, str], None] = lambda point, kind: None
    """A point of a curve: "train" or "judged"."""
    on_update: Callable[[int, int], None] = lambda done, total: None
    stop: Callable[[], bool] = lambda: False
    """Asked before each update."""


class Training:
    """A training under way; `run` takes it to its end."""

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        rows: Sequence[Episodes],
        world: Practice | None,
        folder: Path | None = None,
        sources: Mapping[str, Weights] | None = None,
    ) -> None:
        """Begin, or go on from the newest sound checkpoint of this plan below ``folder``.

        Args:
            plan: what to train.
            layout: the world's sizes, needed where nothing is practised, too.
            rows: those of each archetype of the plan, to learn from and to judge by.
            world: to practise in; None trains on the rows alone.
            folder: of checkpoints; None writes none.
            sources: weights by archetype to begin from, as `Plan.warm` says.

        Raises:
            LearnError: rows, settings or sources cannot be used.
        """
        self.plan, self.kind = plan, plan.kind
        self._settings = plan.type_settings()
        self._device = torch.device(plan.device)
        self._folder = folder / plan.digest()[:16] if folder is not None else None
        limit_card(self._device, plan.memory_gb)
        self._learn, self.held_out = _split(plan, rows)
        self._world = GradedWorld(world) if world is not None else None
        self.refused: list[str] = []
        """Why checkpoints were passed over."""
        n = len(plan.archetypes)
        self.progress = Progress()
        self.plateau = Plateau(n, plan.patience, plan.min_gain)
        self.curriculum = (
            Curriculum(plan.curriculum, n, plan.start_stage) if plan.curriculum else None
        )
        self._best: Weights = {}
        self._layout = layout
        self.stack = self._make(sources or {})
        self._resume(sources or {})

    def _make(self, sources: Mapping[str, Weights]) -> Stack:
        plan = self.plan
        stack = self.kind.make(
            self._settings, self._layout, plan.seeds(), plan.rates(), self._device
        )
        frozen = frozen_parameters(stack.modules(), plan.warm.frozen if plan.warm else ())
        for optimiser in stack.optimisers().values():
            optimiser.accumulate(self._settings.accumulate)
            optimiser.freeze(frozen)
        stack.fit(self._learn)
        for i, archetype in enumerate(plan.archetypes):
            if archetype in sources:
                layers = plan.warm.layers if plan.warm else ()
                take_weights(stack, i, sources[archetype], layers)
        return stack

    def _resume(self, sources: Mapping[str, Weights]) -> None:
        for path in checkpoints(self._folder) if self._folder is not None else []:
            try:
                state = read_state(path, _State)
                if state.plan_digest != self.plan.digest():
                    text = f"{path} must be of plan {self.plan.digest()}; got {state.plan_digest}"
                    raise CheckpointError(text)
                tensors = read_tensors(path, state.tensors_sha256)
                self._restore(state.progress, tensors)
            except (CheckpointError, KeyError) as error:
                self.refused.append(f"checkpoint {path.name}: {error}")
                self.stack = self._make(sources)  # what was half restored is made anew
            else:
                return
        self.progress = Progress()

    def _restore(self, progress: Progress, tensors: Weights) -> None:
        self.stack.restore(
            {k.removeprefix("stack."): v for k, v in tensors.items() if k.startswith("stack.")}
        )
        self._best = {k[5:]: v for k, v in tensors.items() if k.startswith("best.")}
        self.plateau.best = tensors["plateau.best"].numpy().copy()
        self.plateau.stale = tensors["plateau.stale"].numpy().copy()
        self.progress = progress
        if self.curriculum is not None and progress.stages:
            self.curriculum.models = progress.stages

    def save(self) -> None:
        """Write a checkpoint, if there is a folder for them."""
        if self._folder is None:
            return
        progress = self.progress
        progress.stages = self.curriculum.models if self.curriculum is not None else []
        tensors = {f"stack.{k}": v.contiguous() for k, v in self.stack.state().items()}
        tensors |= {f"best.{k}": v for k, v in self._best.items()}
        tensors["plateau.best"] = torch.from_numpy(self.plateau.best.copy())
        tensors["plateau.stale"] = torch.from_numpy(self.plateau.stale.copy())
        write(
            self._folder / f"{progress.n_updates:09d}",
            tensors,
            lambda sha256: _State(
                plan_digest=self.plan.digest(), tensors_sha256=sha256, progress=progress
            ),
            self.plan.keep_checkpoints,
        )

    def forget(self) -> None:
        """Remove the checkpoints of a training that nothing goes on from any more."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def peak_bytes(self) -> int:
        """The most memory that was held, of the card or the process."""
        return peak_bytes(self._device)

    @property
    def finished(self) -> bool:
        """Whether all updates are taken, or every model has stopped."""
        return self.progress.n_updates >= self.plan.n_updates or bool(self.plateau.stopped.all())

    def run(self, hooks: Hooks | None = None) -> bool:
        """Train to the end; returns False when it was asked to stop before that.

        At the end each model has the weights of its best judgement.

        Raises:
            LearnError: a loss is not finite, or the memory cap is passed.
        """
        hooks = hooks or Hooks()
        began = time.monotonic()
        try:
            if self.plan.warm is not None and not self.progress.judged:
                self._judge(hooks)  # what was begun from may stay the best
            while not self.finished:
                if hooks.stop():
                    return False
                self._step(hooks)
                hooks.on_update(self.progress.n_updates, self.plan.n_updates)
        finally:
            self.progress.seconds += time.monotonic() - began
        self.save()
        self._take_best()
        return True

    def conclude(self, hooks: Hooks | None = None) -> None:
        """End where a stopped training stands, as a plan with `Plan.stop_after` would end there."""
        n = self.progress.n_updates
        if self.finished or n == 0:
            return
        self.save()
        if n % REPORT_EVERY:
            self._report(hooks or Hooks())
        if n % self.plan.judge_every:
            self._judge(hooks or Hooks())
        self._take_best()

    def _take_best(self) -> None:
        if self._best:
            judged = np.isfinite(self.plateau.best)
            put_rows(stacked_weights(self.stack), self._best, [bool(j) for j in judged])

    def _step(self, hooks: Hooks) -> None:
        progress, plan = self.progress, self.plan
        if progress.n_updates % self._settings.practise_every == 0:
            self._practise()
        self._count(self._update())
        progress.n_updates += 1
        n = progress.n_updates
        last = n == plan.n_updates
        if n % REPORT_EVERY == 0 or last:
            self._report(hooks)
        if n % plan.judge_every == 0 or last:
            self._judge(hooks)
        if n % plan.checkpoint_every == 0:
            self.save()

    def _update(self) -> Update:
        plan = self.plan
        half = torch.autocast(plan.device, torch.bfloat16) if plan.amp else contextlib.nullcontext()
        with half:
            update = self.stack.update()
        bad = ~np.isfinite(update.loss)
        if bad.any():
            who = plan.archetypes[int(np.argmax(bad))]
            msg = (
                f"{plan.type}.loss must be finite; got {update.loss[int(np.argmax(bad))]} for {who}"
                f" at update {self.progress.n_updates} (a smaller --lr may help)"
            )
            raise LearnError(msg)
        if self.progress.n_updates == 0:
            check_memory(self._device, plan.memory_gb, plan.type)
        return update

    def _practise(self) -> None:
        world, progress = self._world, self.progress
        if world is None or not self._settings.practice_matches:
            return
        if self.curriculum is not None:
            world.difficulty = self.curriculum.difficulties()
        seed = self.plan.derived_seed(f"{self.plan.type}/practice/{progress.n_practised}")
        measured = self.stack.practise(world, seed)
        if not measured:
            return
        progress.n_practised += 1
        matches, world.matches = world.matches, []
        if self.curriculum is not None:
            self.curriculum.add_all(matches)
            measured = {**measured, "stage": _floats([m.stage for m in self.curriculum.models])}
        if matches:
            won = _won(matches, self.stack.n_models)
            measured = {**measured, **({} if won is None else {"win_rate": won})}
        for name, values in measured.items():
            progress.sums[_PRACTICE + name] = [float(v) for v in values]

    def _count(self, update: Update) -> None:
        sums = self.progress.sums
        sums["n"] = [sums.get("n", [0.0])[0] + 1.0]
        for name, values in {"loss": update.loss, **update.scalars}.items():
            before = sums.get(name, [0.0] * len(values))
            sums[name] = [b + float(v) for b, v in zip(before, values, strict=True)]

    def _report(self, hooks: Hooks) -> None:
        sums, progress = self.progress.sums, self.progress
        n = max(sums.pop("n", [1.0])[0], 1.0)
        values = {
            name.removeprefix(_PRACTICE): [v if name.startswith(_PRACTICE) else v / n for v in some]
            for name, some in sums.items()
        }
        progress.sums = {}
        point = Point(progress.n_updates, values)
        progress.curve.append(point)
        hooks.on_point(point, "train")

    def _judge(self, hooks: Hooks) -> None:
        plan, progress = self.plan, self.progress
        check_memory(self._device, plan.memory_gb, plan.type)
        seed = plan.derived_seed(f"{plan.type}/judge")
        before = self.plateau.stopped
        scores, measured = judge(
            self.kind, self.stack, self.held_out, self._world, plan.judge_matches, seed
        )
        gained = self.plateau.add(scores)
        if gained.any():
            if not self._best:
                self._best = copies(stacked_weights(self.stack))
            put_rows(self._best, copies(stacked_weights(self.stack)), [bool(g) for g in gained])
        for i in np.flatnonzero(self.plateau.stopped & ~before):
            progress.stopped_at[int(i)] = progress.n_updates
        factors = [0.0 if stopped else 1.0 for stopped in self.plateau.stopped]
        for optimiser in self.stack.optimisers().values():
            optimiser.scale_rates(factors)
        point = Point(progress.n_updates, plain(measured))
        progress.judged.append(point)
        hooks.on_point(point, "judged")


def _split(plan: Plan, rows: Sequence[Episodes]) -> tuple[list[Episodes], list[Episodes]]:
    if len(rows) != len(plan.archetypes):
        n = len(plan.archetypes)
        msg = f"rows must be those of {n} archetypes; got {len(rows)}"
        raise LearnError(msg)
    learn, held = [], []
    for archetype, some in zip(plan.archetypes, rows, strict=True):
        check_rows(some, archetype)
        try:
            one, other = split_by_match(some, plan.held_out)
        except ValueError as error:
            msg = f"{archetype}: {error}"
            raise LearnError(msg) from error
        learn.append(one)
        held.append(other)
    return learn, held


def _won(matches: Sequence[tuple[int, float]], n_models: int) -> NDArray[np.float32] | None:
    """Return the share of matches won [S], or None where a model ended none."""
    results: list[list[float]] = [[] for _ in range(n_models)]
    for model, score in matches:
        results[model].append(score)
    if not all(results):
        return None
    return _floats([sum(s == 1.0 for s in some) / len(some) for some in results])


def _floats(values: Sequence[float]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def plain(measures: Measures) -> dict[str, list[float]]:
    """Return measures [S] as plain numbers."""
    return {name: [float(v) for v in np.atleast_1d(values)] for name, values in measures.items()}


def weights_now(training: Training) -> dict[str, Any]:
    """Return copies of all weights [S, ...] as they are now."""
    return copies(stacked_weights(training.stack))
