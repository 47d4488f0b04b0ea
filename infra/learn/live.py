"""Continuous training from live windows: which models, where, and by which rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.code_version import code_version
from infra.learn.asked import check_archetypes
from infra.learn.rows import make_layout
from infra.settings import Settings
from schemas.errors import refuse, shown

if TYPE_CHECKING:
    from learners.process import LearnerConfig
    from learners.training.steps import Source


def game_source(game: str) -> Source:
    """Return what a game's windows hold for learners.

    Raises:
        SchemaError: the game's decisions are not those of heads.
    """
    if game != "arena":
        refuse("--game", "arena: the types decide its heads", shown(game))
    from games.arena.rule import HEADS, action_slice
    from games.arena.windows import rows_of
    from learners.training.steps import Source

    slices = {head: action_slice(head) for head in HEADS}
    heads = {head: (part.start, part.stop) for head, part in slices.items()}
    return Source(make_layout(), heads, rows_of)


def check_rule(
    rows: int, hours: float, keep: int, updates: int, method: str | None, preset: str
) -> dict[str, Any]:
    """Return the fields of `learners.training.retrain.RetrainRule`.

    Raises:
        SchemaError: an option breaks its rule.
    """
    from learners.training.choice import WAYS

    if not (math.isfinite(hours) and hours > 0):
        refuse("--hours", "greater than 0", f"{hours:g}")
    if keep < rows:
        refuse("--keep", f"at least --rows, {rows}", str(keep))
    if method is not None and method not in WAYS:
        refuse("--method", f"one of {', '.join(WAYS)}", shown(method))
    return {
        "rows": rows, "span_ms": max(1, round(hours * 3_600_000)), "keep_rows": keep,
        "updates": updates, "way": method, "preset": preset,
    }  # fmt: skip


def learner_config(
    settings: Settings,
    types: Sequence[str],
    archetypes: Sequence[str],
    rule: Mapping[str, Any],
    archive: str | None,
    device: str,
) -> LearnerConfig:
    """Return what a learner process is told.

    Raises:
        SchemaError: an archetype or the game is unknown.
        LearnError: the game's windows have nothing for a type.
    """
    from learners.model_types.registry import model_type
    from learners.process import LearnerConfig
    from learners.training.continuous import ContinuousSessions
    from learners.training.machine import device_name
    from learners.training.publish import Place
    from learners.training.retrain import RetrainRule

    game = settings.load_game().name
    source = game_source(game)
    check_archetypes(tuple(archetypes))
    for name in types:
        source.name(model_type(name))
    place = Place(
        game=game, archive=archive or str(Path(settings.windows_dir).resolve()),
        models=settings.models_dir.resolve(), checkpoints=settings.checkpoints_dir.resolve(),
        code_version=code_version(),
    )  # fmt: skip
    trains = ContinuousSessions(
        place=place, archetypes=list(archetypes), types=list(types), source=source,
        rule=RetrainRule(**{**rule, "seed": settings.seed, "device": device_name(device)}),
    )  # fmt: skip
    return LearnerConfig(
        kafka=settings.kafka, topics=settings.topics, trains=trains, process="learn-continuous",
        group="learn-continuous", device="cpu",
    )  # fmt: skip
