"""Versions made again from what their manifests say, and compared with each other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from infra.code_version import code_version
from infra.learn.exported import EPISODES as COMPARED
from infra.learn.judged import fresh_rows
from infra.learn.rows import ensure_rows, make_layout, make_world
from infra.learn.versions import find_version

if TYPE_CHECKING:
    from learners.training.deliver import VersionInfo
    from learners.training.plan import Plan
    from schemas.practice import Episodes, Layout, Practice


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of making a version again."""

    model: str
    version: str
    same: bool
    sha256: str
    """Of the ONNX file made now."""
    wanted: str
    """Of the one that the manifest names."""
    code_version: str
    made_with: str
    """The code that made it first."""
    seconds: float


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What tells two versions apart."""

    one: str
    other: str
    data: dict[str, tuple[Any, Any]]
    settings: dict[str, tuple[Any, Any]]
    made: dict[str, tuple[Any, Any]]
    """Seed, updates, form, code."""
    metrics: dict[str, tuple[Any, Any]]
    same_weights: bool
    agreement: float | None
    """Share of new observations on which both choose the same; None where inputs differ."""
    largest: float | None
    """Largest difference of an output there."""
    n: int


def rebuild(
    models: Path, data: Path, archive: str, name: str, on_update: Callable[[int, int], None]
) -> Rebuilt:
    """Train and export a version again, in a folder of its own, and compare the ONNX bytes.

    Raises:
        LearnError: what it was made from is not there any more, or differs.
    """
    from learners.export import file_of
    from learners.exporting import make_form, optimise
    from learners.training.deliver import Renderer, read_version
    from learners.training.run import Hooks, Training

    folder = find_version(models, name)
    info = read_version(folder)
    plan, layout = info.plan, make_layout()
    rows, world = _inputs(plan, data, archive, layout)
    with tempfile.TemporaryDirectory() as checkpoints:
        training = Training(plan, layout, rows, world, Path(checkpoints), _sources(models, plan))
        training.run(Hooks(on_update=on_update))
    at = plan.archetypes.index(info.archetype)
    full, _, feeds = Renderer(plan.kind, layout, training.stack).full(at, training.held_out[at])
    model = make_form(optimise(full) if info.optimised else full, info.form, feeds)
    file, wanted = file_of("model.onnx", model), info.files["model.onnx"]["sha256"]
    return Rebuilt(
        model=info.model, version=info.version, same=file.sha256 == wanted, sha256=file.sha256,
        wanted=wanted, code_version=code_version(), made_with=info.code_version,
        seconds=training.progress.seconds,
    )  # fmt: skip


def _sources(models: Path, plan: Plan) -> dict[str, Any]:
    from learners.training.deliver import version_weights

    if plan.warm is None:
        return {}
    return {
        archetype: version_weights(find_version(models, name, "warm start"))
        for archetype, name in plan.warm.versions.items()
    }


def _inputs(
    plan: Plan, data: Path, archive: str, layout: Layout
) -> tuple[list[Episodes], Practice | None]:
    """Return the rows and the world that a plan names; digests are checked."""
    from learners.model_types.base import LearnError
    from learners.training.rows import read_rows, rows_digest

    told = [plan.rows[archetype] for archetype in plan.archetypes]
    if "windows" in told[0]:
        rows = [_from_windows(plan, one, archive, layout) for one in told]
        world = None
    else:
        rows = []
        for archetype, one in zip(plan.archetypes, told, strict=True):
            rows.append(read_rows(_folder(data, archetype, one)))
        world = make_world(plan.archetypes)
    for archetype, one, some in zip(plan.archetypes, told, rows, strict=True):
        digest = rows_digest(some)
        if digest != one["digest"]:
            msg = (
                f"rows of {archetype} must have digest {one['digest']}; got {digest} (they were"
                f" made by {one.get('code_version', 'another archive')})"
            )
            raise LearnError(msg)
    return rows, world


def _folder(data: Path, archetype: str, told: dict[str, Any]) -> Path:
    """Return where rows are: recorded again where that needs no archive."""
    if told["source"] == "windows":
        name = f"{archetype}-windows-{told['decisions_digest'][:16]}"
        return data / "learn" / "rows" / (f"{name}-maps" if told["maps"] else name)
    folders = ensure_rows(data, [archetype], told["samples"], told["seed"], told["maps"])
    return folders[archetype]


def _from_windows(plan: Plan, told: dict[str, Any], archive: str, layout: Layout) -> Episodes:
    from infra.learn.live import game_source
    from learners.model_types.base import wants_maps
    from schemas.records import Window

    reader = game_source(told["game"]).reader(plan.kind, archive)
    parts = [reader.read(msgspec.convert(window, Window)) for window in told["windows"]]
    return reader.episodes(parts, maps=wants_maps(plan.kind, layout))


def diff(models: Path, one: str, other: str, seed: int) -> Difference:
    """Return what differs between two versions: data, settings, and what they do.

    Raises:
        SchemaError: one of them is not there.
    """
    from learners.training.deliver import read_version

    folders = [find_version(models, name, "models diff") for name in (one, other)]
    infos = [read_version(folder) for folder in folders]
    first, second = infos
    agreement, largest, n = _behaviour(folders, infos, seed)
    return Difference(
        one=f"{first.model}@{first.version}", other=f"{second.model}@{second.version}",
        data=_unlike(_data(first), _data(second)),
        settings=_unlike(first.plan.settings, second.plan.settings),
        made=_unlike(_made(first), _made(second)),
        metrics=_unlike(first.metrics, second.metrics),
        same_weights=_weights_digest(first) == _weights_digest(second),
        agreement=agreement, largest=largest, n=n,
    )  # fmt: skip


def _weights_digest(info: VersionInfo) -> str:
    digest: str = info.files["weights.safetensors"]["sha256"]
    return digest


def _data(info: VersionInfo) -> dict[str, Any]:
    told = dict(info.plan.rows.get(info.archetype, {}))
    windows = told.pop("windows", None)
    if windows is not None:
        told["windows"] = [window["window_id"] for window in windows]
    return {"archetype": info.archetype, **told}


def _made(info: VersionInfo) -> dict[str, Any]:
    plan = info.plan
    return {
        "type": info.type, "preset": plan.preset, "seed": plan.seed, "updates": info.n_updates,
        "form": info.form, "optimised": info.optimised, "code_version": info.code_version,
        "warm": msgspec.to_builtins(plan.warm), "curriculum": msgspec.to_builtins(plan.curriculum),
        "amp": plan.amp, "archetypes": plan.archetypes,
    }  # fmt: skip


def _unlike(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        key: (one.get(key), other.get(key))
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key)
    }


def _behaviour(
    folders: list[Path], infos: list[VersionInfo], seed: int
) -> tuple[float | None, float | None, int]:
    """Return agreement, largest difference and n over new observations."""
    import numpy as np

    from learners.export import open_session, parity_of
    from learners.training.deliver import load_stack

    first, second = infos
    if first.type != second.type:
        return None, None, 0
    fit, rows = fresh_rows(first.type, first.archetype, COMPARED, seed)
    layout = make_layout()
    names = [port.name for port in first.plan.kind.inputs(layout)]
    fed = [load_stack([f], layout, rows=[fit]).feeds(rows, 512) for f in folders]
    feeds = [{name: values[name] for name in names} for values in fed]
    if any(feeds[0][name].shape != feeds[1][name].shape for name in names):
        return None, None, 0
    graphs = [(folder / "model.onnx").read_bytes() for folder in folders]
    expected = open_session(graphs[1]).run(None, feeds[0])
    parity = parity_of(graphs[0], [np.asarray(part) for part in expected], feeds[0])
    return parity.agreement, parity.max_error, parity.n


def render_difference(found: Difference) -> str:
    """Return a difference as text, a line a field."""
    lines = [f"{found.one} and {found.other}"]
    for title in ("data", "settings", "made", "metrics"):
        table: dict[str, tuple[Any, Any]] = getattr(found, title)
        lines.append(f"{title}:" if table else f"{title}: the same")
        lines += [f"  {key}: {_short(a)} -> {_short(b)}" for key, (a, b) in table.items()]
    lines.append(f"weights: {'the same' if found.same_weights else 'other'}")
    if found.agreement is None or found.largest is None:
        lines.append("behaviour: not comparable, for their inputs differ")
    else:
        lines.append(
            f"behaviour: the same choice on {found.agreement:.1%} of {found.n} new observations,"
            f" outputs differ by at most {found.largest:.2g}"
        )
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
