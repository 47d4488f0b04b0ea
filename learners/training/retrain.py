"""When a model is trained again from live windows, and what is decided before it is."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from learners.checkpoint import Cursor
from learners.model_types.base import Preset
from learners.training.choice import Choice, Way
from learners.training.plan import Plan
from schemas.records import Window

Positive = Annotated[int, Meta(ge=1)]


class RetrainRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a model is trained again, and how."""

    rows: Positive = 1_000
    """New decisions of its head that are enough."""
    span_ms: Positive = 3_600_000
    """Event time after which fewer are enough, too."""
    keep_rows: Positive = 20_000
    """Newest decisions that are learned from."""
    updates: Positive = 300
    preset: Preset = "modern"
    way: Way | None = None
    """How to learn; None: by the age of the data."""
    seed: int = 1
    device: str = "cpu"


class ModelState(msgspec.Struct):
    """Where one model stands."""

    n_new: int = 0
    """Decisions since its last retraining began."""
    trained_ms: int = 0
    """Event time of the windows behind that."""
    number: int = 0
    """Of its newest version."""
    updates: int = 0
    refused: str = ""
    """Why it could not be trained on what there is."""


class Retraining(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided before a retraining; equal ones make equal weights."""

    plan: Plan
    choice: Choice
    windows: list[str]


class SessionState(msgspec.Struct):
    """All that a session keeps beside what trainings keep themselves."""

    cursor: Cursor = msgspec.field(default_factory=Cursor)
    windows: list[Window] = []
    """Whose rows are learned from, oldest first."""
    models: dict[str, ModelState] = {}
    """By type."""
    due: list[str] = []
    """Types to retrain before the next window is taken."""
    now: Retraining | None = None
