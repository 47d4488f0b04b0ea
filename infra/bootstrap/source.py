"""What a source of initial data is: it is handed the time and says what happened."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from schemas.events import ActorEvent


class BootstrapError(RuntimeError):
    """There is nothing to begin with."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a source."""

    samples: int
    """Decisions of each archetype."""
    archetypes: tuple[str, ...]
    seed: int
    incarnation: str
    """Part of every id; new for each start, so that no decision id comes twice."""


class Source(Protocol):
    """Says what happened, a step at a time."""

    def step(self, now_ms: int) -> Sequence[ActorEvent]:
        """Return the next events, which happen now; none when there is nothing left."""
        ...
