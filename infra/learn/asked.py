"""What a training is asked for on the command line, checked before anything is loaded."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from schemas.errors import refuse, shown
from schemas.practice import ARCHETYPES

Device = Literal["auto", "cpu", "cuda"]
SAMPLES = 10_000
"""Bootstrap rows an archetype."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `grindstone learn train`; None is what the preset says."""

    archetypes: tuple[str, ...] = ARCHETYPES
    types: tuple[str, ...]
    preset: Literal["classic", "modern"] = "modern"
    epochs: float | None = None
    """Times that the bootstrap's rows are gone through."""
    batch: int | None = None
    lr: float | None = None
    device: Device = "auto"
    amp: Literal["auto", "on", "off"] = "auto"
    parallel: int | None = None
    """Trainings side by side; None: one a core."""
    samples: int = SAMPLES
    source: Literal["scripted", "windows"] = "scripted"
    """Where rows come from: the arena's own AI at play, or the archive of live play."""
    minutes: float | None = None
    """Wall time of all together, after which the best so far is taken."""
    seed: int = 1
    memory_gb: float = 11.0
    curriculum: Literal["levels", "none"] = "levels"
    weight_decay: float | None = None
    accumulate: int | None = None
    patience: int = 20
    judge_matches: int = 64
    evaluate_matches: int = 400
    updates: int | None = None

    def __post_init__(self) -> None:
        """Check every value against its rule."""
        above = {
            "--epochs": self.epochs, "--batch": self.batch, "--lr": self.lr,
            "--parallel": self.parallel, "--samples": self.samples, "--minutes": self.minutes,
            "--memory-gb": self.memory_gb, "--accumulate": self.accumulate,
            "--updates": self.updates,
        }  # fmt: skip
        for option, number in above.items():
            if number is not None and not (math.isfinite(number) and number > 0):
                refuse(option, "greater than 0", f"{number:g}")
        notnegative = {
            "--weight-decay": self.weight_decay, "--seed": self.seed, "--patience": self.patience,
        }  # fmt: skip
        for option, number in notnegative.items():
            if number is not None and not (math.isfinite(number) and number >= 0):
                refuse(option, "at least 0", f"{number:g}")
        check_archetypes(self.archetypes)
        if self.epochs is not None and self.updates is not None:
            refuse("--updates", "left out where --epochs is given", str(self.updates))

    def changes(self) -> dict[str, Any]:
        """Return the settings of a type that differ from its preset."""
        given = {
            "batch": self.batch, "learning_rate": self.lr, "weight_decay": self.weight_decay,
            "accumulate": self.accumulate, "updates": self.updates,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


def check_archetypes(given: tuple[str, ...], option: str = "--archetype") -> tuple[str, ...]:
    """Return archetypes that are known.

    Raises:
        SchemaError: one is not.
    """
    for name in given:
        if name not in ARCHETYPES:
            refuse(option, f"one of {', '.join(ARCHETYPES)}", shown(name))
    return given


def check_types(types: tuple[str, ...], known: list[str]) -> tuple[str, ...]:
    """Return the types asked for, all where none is named.

    Raises:
        SchemaError: one is unknown.
    """
    for name in types:
        if name not in known:
            refuse("--type", f"one of {', '.join(known)}", shown(name))
    return tuple(dict.fromkeys(types)) or tuple(known)
