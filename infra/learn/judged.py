"""Trained versions judged anew, on matches and rows that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from infra.learn.rows import make_layout, make_world, record
from infra.learn.versions import model_name, versions
from schemas.errors import refuse

if TYPE_CHECKING:
    from learners.training.deliver import VersionInfo
    from schemas.practice import Episodes

ROWS_AN_EPISODE = 60
"""About the decisions of one actor in a match: episodes asked for, told as rows."""
FRESH = 10_000
"""Added to a seed: the rows of an evaluation are none that a training saw."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What one version is worth."""

    model: str
    version: str
    type: str
    archetype: str
    quality: dict[str, Any]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What `learn evaluate` found."""

    game: str = "arena"
    episodes: int
    seed: int
    judged: list[Judged]


def select(models: Path, types: Sequence[str], archetypes: Sequence[str]) -> list[Path]:
    """Return the newest version of each model of some types and archetypes.

    Raises:
        SchemaError: there is none.
    """
    found = [
        there[-1]
        for kind in types
        for archetype in archetypes
        if (there := versions(models, model_name(kind, archetype)))
    ]
    if not found:
        refuse("--type", f"of a model that was trained, below {models}", ", ".join(types))
    return found


def evaluate(
    folders: Sequence[Path], episodes: int, seed: int, on_done: Callable[[str], None]
) -> Evaluation:
    """Return what versions are worth; those of one type and equal settings play as one stack."""
    from learners.training.deliver import read_version

    groups: dict[bytes, list[tuple[Path, VersionInfo]]] = {}
    for folder in folders:
        info = read_version(folder)
        key = msgspec.json.encode((info.type, info.plan.settings), order="deterministic")
        groups.setdefault(key, []).append((folder, info))
    judged: list[Judged] = []
    for group in groups.values():
        judged += _judge(group, episodes, seed)
        on_done(group[0][1].type)
    return Evaluation(episodes=episodes, seed=seed, judged=judged)


def _judge(group: Sequence[tuple[Path, VersionInfo]], episodes: int, seed: int) -> list[Judged]:
    from learners.training.deliver import load_stack
    from learners.training.quality import qualities

    plan = group[0][1].plan
    archetypes = [info.archetype for _, info in group]
    halves = [fresh_rows(plan.type, a, episodes, seed) for a in archetypes]
    layout = make_layout()
    stack = load_stack([folder for folder, _ in group], layout, rows=[one for one, _ in halves])
    found = qualities(
        plan.kind, stack, [str(i) for i in range(len(group))], [other for _, other in halves],
        make_world(archetypes), episodes, plan.derived_seed(f"evaluate/{seed}"),
    )  # fmt: skip
    return [
        Judged(
            model=info.model, version=info.version, type=info.type, archetype=info.archetype,
            quality=found[str(i)],
        )
        for i, (_, info) in enumerate(group)
    ]  # fmt: skip


def fresh_rows(kind: str, archetype: str, episodes: int, seed: int) -> tuple[Episodes, Episodes]:
    """Return rows of new scripted play, in two halves: one to fit what judges, one to be judged."""
    from learners.model_types.base import wants_maps
    from learners.model_types.registry import model_type
    from schemas.practice import split_by_match

    maps = wants_maps(model_type(kind), make_layout())
    n = max(2 * ROWS_AN_EPISODE, episodes * ROWS_AN_EPISODE)
    return split_by_match(record(archetype, n, seed + FRESH, maps), 0.5)


def render_text(found: Evaluation) -> Any:
    """Return an evaluation as a table for a terminal."""
    from rich.table import Table

    table = Table("model", "version", "measure", "value", "95 %", "n", "met", box=None)
    for one in found.judged:
        table.add_row(*cells_of(one))
    return table


def cells_of(one: Judged) -> list[str]:
    """Return a version's row: name, version, measure, value, interval, n, whether it is met."""
    quality = one.quality
    low, value = quality.get("low"), quality.get("value")
    return [
        one.model, one.version, quality["measure"], "-" if value is None else f"{value:.3f}",
        "-" if low is None else f"{low:.3f} to {quality['high']:.3f}", f"{quality['n']:,}",
        "yes" if quality["good"] else "no",
    ]  # fmt: skip


def write_evaluation(found: Evaluation, path: Path) -> None:
    """Write an evaluation to a file that is not there yet: a page, JSON or Markdown."""
    from infra import page
    from infra.fresh import fresh_file

    columns = ("model", "version", "measure", "value", "95 %", "n", "met")
    rows = [cells_of(one) for one in found.judged]
    if path.suffix == ".json":
        data = msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"
    elif path.suffix == ".md":
        lines = [columns, ["---"] * len(columns), *rows]
        data = "".join(f"| {' | '.join(line)} |\n" for line in lines).encode()
    else:
        note = page.note(f"{found.episodes} episodes a model, seed {found.seed}.")
        parts = [page.heading(1, "Evaluation"), note, page.table(columns, rows)]
        data = page.page("Evaluation", parts).encode()
    with fresh_file(path, "--report") as stream:
        stream.write(data)
