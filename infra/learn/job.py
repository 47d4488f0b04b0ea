"""One training in a process of its own: a type, its archetypes, from rows to versions."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from infra.learn.rows import make_layout, make_world

if TYPE_CHECKING:
    from learners.training.plan import Plan
    from learners.training.run import Point, Training
    from schemas.practice import Layout

TELL_EVERY_S = 0.25
SAVE_EVERY_S = 120.0
"""Wall time between checkpoints beside those of the plan: what a kill costs at most."""

SCALARS = {
    "loss": "loss/train", "q_mean": "q/mean", "q_max": "q/max", "td_error": "td_error",
    "reward": "reward", "episode_length": "episode_length", "win_rate": "win_rate",
}  # fmt: skip
"""TensorBoard's tag of a measure; others keep their names."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is told; plain, so that it can be sent."""

    plan: bytes
    """`learners.training.plan.Plan` as JSON."""
    rows: list[str]
    """Folders of rows, one an archetype."""
    models: str
    checkpoints: str
    scalars: str
    """Root of TensorBoard's runs."""
    code_version: str
    threads: int
    amp: str = "off"
    seconds: float | None = None
    """Wall time after which the best so far is taken."""
    evaluate_matches: int = 400
    forms: tuple[str, ...] = ("fp16", "fp32", "int8")
    optimise: bool = False
    verify: bool = True
    sources: dict[str, str] = {}
    """Archetype -> version's folder to begin from."""
    resume: bool = False
    """Whether what an earlier run of this very job made is taken as it is."""

    def kept_at(self) -> Path:
        """Return the file that tells what came of this job, so that it is done once."""
        changing = {"threads", "seconds", "resume"}
        fields = {k: getattr(self, k) for k in self.__struct_fields__ if k not in changing}
        text = msgspec.json.encode(fields, order="deterministic")
        name = f"made-{hashlib.blake2b(text, digest_size=8).hexdigest()}.json"
        kind: str = msgspec.json.decode(self.plan)["type"]
        return Path(self.checkpoints) / kind / name


class Told(msgspec.Struct, frozen=True):
    """How far a training has come."""

    type: str
    done: int
    total: int
    phase: str = "training"
    """training, judging (the finished models, and their export), or done."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a training."""

    type: str
    plan: dict[str, Any]
    folders: dict[str, str]
    """Archetype -> the version's folder."""
    n_updates: int
    seconds: float
    cpu_s: float
    peak_bytes: int
    stopped_at: dict[str, int]
    quality: dict[str, dict[str, Any]]
    """Archetype -> what `learners.training.quality` found."""
    curve: list[dict[str, Any]]
    judged: list[dict[str, Any]]
    refused: list[str]
    """Checkpoints that were passed over, and models that could not be exported."""
    data: dict[str, str] = {}
    """Archetype -> how its rows are learned from by their age, and why."""
    whole: bool
    """False where its time was up."""


def run_job(job: Job, tell: Callable[[Told], None]) -> Made:
    """Train, evaluate and export; see `streams.pool.run_all`."""
    from infra.fresh import put_file
    from learners.training.machine import use_threads
    from learners.training.plan import Plan

    kept = _kept(job)
    if kept is not None:
        tell(Told(kept.type, kept.n_updates, kept.n_updates, "done"))
        return kept
    use_threads(job.threads)
    stopping = _Stopping(job.seconds)
    plan = msgspec.json.decode(job.plan, type=Plan)
    layout, training = _begin(job, plan)
    with _Scalars(job, plan) as on_point:
        done = training.run(_hooks(training, stopping, tell, on_point))
        if not done and stopping.asked:
            training.save()
            raise KeyboardInterrupt
        training.conclude()
    n = training.progress.n_updates
    tell(Told(plan.type, n, n, "judging"))
    made = _finish(job, training, layout, done)
    put_file(job.kept_at(), msgspec.json.encode(made))
    training.forget()
    tell(Told(plan.type, n, n, "done"))
    return made


def _kept(job: Job) -> Made | None:
    """Return what an earlier run made, where it is wanted and its versions are still there."""
    path = job.kept_at()
    if not job.resume or not path.is_file():
        return None
    made = msgspec.json.decode(path.read_bytes(), type=Made)
    return made if all(Path(folder).is_dir() for folder in made.folders.values()) else None


def _begin(job: Job, plan: Plan) -> tuple[Layout, Training]:
    from learners.training.deliver import version_weights
    from learners.training.machine import half_is_faster
    from learners.training.rows import read_rows
    from learners.training.run import Training

    layout = make_layout()
    rows = [read_rows(Path(folder)) for folder in job.rows]
    folder = Path(job.checkpoints) / plan.type
    if job.amp == "auto":
        half = _measured_once(folder, plan, lambda: half_is_faster(plan, layout, rows))
        plan = msgspec.structs.replace(plan, amp=half)
    world = make_world(plan.archetypes)
    sources = {name: version_weights(Path(folder)) for name, folder in job.sources.items()}
    return layout, Training(plan, layout, rows, world, folder, sources)


def _measured_once(folder: Path, plan: Plan, measure: Callable[[], bool]) -> bool:
    """Return what was measured, kept in a file: a training that resumes is the same training."""
    from infra.fresh import put_file

    path = folder / f"{plan.digest()[:16]}.amp"
    if path.is_file():
        return path.read_bytes() == b"on"
    found = measure()
    put_file(path, b"on" if found else b"off")
    return found


class _Stopping:
    """A deadline, and SIGTERM: a pool ends its processes with it."""

    def __init__(self, seconds: float | None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.asked = False
        try:
            signal.signal(signal.SIGTERM, self._ask)
        except ValueError:
            pass  # in a thread: whoever started it ends it

    def _ask(self, *_: object) -> None:
        self.asked = True

    def __call__(self) -> bool:
        return self.asked or (self._deadline is not None and time.monotonic() >= self._deadline)


def _hooks(
    training: Training,
    stopping: _Stopping,
    tell: Callable[[Told], None],
    on_point: Callable[[Point, str], None],
) -> Any:
    from learners.training.run import Hooks

    told_at, saved_at = 0.0, time.monotonic()

    def on_update(done: int, total: int) -> None:
        nonlocal told_at, saved_at
        now = time.monotonic()
        if now - saved_at >= SAVE_EVERY_S:
            training.save()
            saved_at = time.monotonic()
        if now - told_at >= TELL_EVERY_S or done == total:
            told_at = now
            tell(Told(training.plan.type, done, total))

    return Hooks(on_point=on_point, on_update=on_update, stop=stopping)


class _Scalars:
    """TensorBoard files of a training, one run an archetype."""

    def __init__(self, job: Job, plan: Plan) -> None:
        from learners.scalars import ScalarWriter

        root, self._device = Path(job.scalars), plan.device
        self._writers = [ScalarWriter(root / plan.type / a, time.time()) for a in plan.archetypes]

    def __enter__(self) -> Callable[[Point, str], None]:
        return self._on_point

    def __exit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()

    def _on_point(self, point: Point, kind: str) -> None:
        from learners.training.memory import told_device

        device = told_device(self._device) if kind == "train" else {}
        for i, writer in enumerate(self._writers):
            values = {
                _tag(name, kind): numbers[i]
                for name, numbers in point.values.items()
                if i < len(numbers)
            }
            values |= device
            writer.add(point.update, values, time.time())


def _tag(name: str, kind: str) -> str:
    if kind == "train":
        return SCALARS.get(name, name)
    return "loss/validation" if name == "loss" else f"validation/{name}"


def _by_age(training: Training) -> dict[str, str]:
    """Return for each archetype what its logged rows allow, beside practice."""
    from infra.learn.live import game_source
    from learners.training.choice import choose

    plan = training.plan
    fresh = bool(plan.type_settings().practice_matches) and training.kind.acts is not None
    before = "practises in the arena; what is logged: " if fresh else ""
    plays = game_source("arena").plays  # windows have rows of these models, not of those made here
    return {
        archetype: before + choose(training.kind, rows, 0, other=plays[archetype]).why
        for archetype, rows in zip(plan.archetypes, training.held_out, strict=True)
    }


def _finish(job: Job, training: Training, layout: Layout, whole: bool) -> Made:
    from infra.learn.versions import free_folder, model_name
    from learners.exporting import FORMS
    from learners.training.deliver import Wanted, deliver, plan_of_weights
    from learners.training.quality import qualities

    plan = plan_of_weights(training)
    found = qualities(
        training.kind, training.stack, plan.archetypes, training.held_out,
        make_world(plan.archetypes), job.evaluate_matches, plan.derived_seed("evaluate"),
    )  # fmt: skip
    wanted = Wanted(tuple(f for f in FORMS if f in job.forms), job.optimise, job.verify)
    more = [
        {
            "model": model_name(plan.type, archetype), "game": "arena",
            "code_version": job.code_version, "quality": found[archetype],
            "metrics": {k: v for k, v in found[archetype].items() if isinstance(v, float)},
        }
        for archetype in plan.archetypes
    ]  # fmt: skip
    models = Path(job.models)
    refused: dict[str, str] = {}
    folders = deliver(
        training, layout, wanted, lambda a: free_folder(models, model_name(plan.type, a)), more,
        refused,
    )  # fmt: skip
    progress = training.progress
    return Made(
        type=plan.type, plan=msgspec.to_builtins(plan),
        folders={archetype: str(folder) for archetype, folder in folders.items()},
        n_updates=progress.n_updates, seconds=progress.seconds, cpu_s=time.process_time(),
        peak_bytes=training.peak_bytes,
        stopped_at={plan.archetypes[i]: n for i, n in progress.stopped_at.items()},
        quality=found, curve=msgspec.to_builtins(progress.curve),
        judged=msgspec.to_builtins(progress.judged), whole=whole,
        refused=[*training.refused, *(f"{a} has no version: {why}" for a, why in refused.items())],
        data=_by_age(training),
    )  # fmt: skip
