"""What a learner is told: the game's learner table, its seed, and where things lie."""

from __future__ import annotations

import hashlib
import math
from typing import TypeAlias

import msgspec

from schemas.game import Game, Learner

PlainValue: TypeAlias = float | int | str | bool | list[int]

MODEL_SEED_SPACE = 2**31
"""Seeds of generators are derived within what every generator takes."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy sees and does: observation dimensions (channels last) and actions."""

    observation: tuple[int, ...]
    n_actions: int

    @property
    def size(self) -> int:
        """Features of one observation, flattened."""
        return math.prod(self.observation)

    @classmethod
    def of(cls, game: Game) -> Shape:
        """Return the shape a game describes."""
        return cls(observation=tuple(game.observation.shape), n_actions=game.actions.n)


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the weights beside the windows: equal settings, equal weights."""

    game: str
    archetype: str
    model: str
    shape: Shape
    learner: Learner
    seed: int = 0

    @classmethod
    def of(cls, game: Game, archetype: str, seed: int) -> ModelSettings:
        """Return the settings of one archetype's learner as its game describes it."""
        return cls(
            game=game.name,
            archetype=archetype,
            model=game.archetypes[archetype].model,
            shape=Shape.of(game),
            learner=game.learners[archetype],
            seed=seed,
        )

    def values(self) -> dict[str, PlainValue]:
        """Return the learner's settings as the plain values that events and manifests carry."""
        names = self.learner.__struct_fields__
        return {name: getattr(self.learner, name) for name in names}

    def digest(self) -> str:
        """Return 32 hex digits that differ whenever a setting does."""
        text = msgspec.json.encode(self, order="deterministic")
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    def derived_seed(self, purpose: str) -> int:
        """Return a seed for one purpose; models of one run draw from different streams."""
        text = f"{self.seed}/{self.model}/{purpose}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) % MODEL_SEED_SPACE
