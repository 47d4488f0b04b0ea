"""The names of the topics, with an optional prefix so that several systems share a broker."""

from __future__ import annotations

from typing import Literal

import msgspec


class TopicSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a topic is made: partitions, clean-up policy and retention in milliseconds (-1 keeps)."""

    name: str
    partitions: int
    cleanup: Literal["delete", "compact"]
    retention_ms: int = -1
    purpose: str = ""


_HOUR_MS = 3_600_000


class Topics(msgspec.Struct, frozen=True):
    """Names of every topic under one prefix, e.g. ``Topics("arena-").experiences``."""

    prefix: str = ""

    @property
    def game_events(self) -> str:
        """What games say: single JSON events and packs, in a total order for each actor."""
        return f"{self.prefix}game-events"

    @property
    def experiences(self) -> str:
        """Settled experience and watermarks, same partition number as the events."""
        return f"{self.prefix}experiences"

    @property
    def replay_windows(self) -> str:
        """Sealed windows of experience, announced by the archiver."""
        return f"{self.prefix}replay-windows"

    @property
    def models(self) -> str:
        """The life of every model version."""
        return f"{self.prefix}models"

    @property
    def dead_letters(self) -> str:
        """Input that could not be taken, with the reason and the original bytes."""
        return f"{self.prefix}dead-letters"

    @property
    def metrics(self) -> str:
        """What processes measure about themselves."""
        return f"{self.prefix}metrics"

    def changelog(self, app: str) -> str:
        """The compacted topic behind the state table of an engine application."""
        return f"{self.prefix}{app}-changelog"

    def specs(self, partitions: int) -> list[TopicSpec]:
        """Return every topic of the system; event topics get ``partitions``, the small ones one."""
        day = 24 * _HOUR_MS

        def topic(
            name: str,
            n: int,
            cleanup: Literal["delete", "compact"],
            keep_ms: int,
            purpose: str,
        ) -> TopicSpec:
            return TopicSpec(
                name=name, partitions=n, cleanup=cleanup, retention_ms=keep_ms, purpose=purpose
            )

        return [
            topic(self.game_events, partitions, "delete", 7 * day, "what games say, by actor"),
            topic(self.experiences, partitions, "delete", 7 * day, "settled experience"),
            topic(self.replay_windows, partitions, "delete", -1, "sealed windows of experience"),
            topic(self.models, 1, "delete", -1, "the life of every model version"),
            topic(self.dead_letters, 1, "delete", 90 * day, "refused input and why"),
            topic(self.metrics, 1, "delete", day, "what processes measure about themselves"),
            topic(self.changelog("rewards"), partitions, "compact", -1, "open decisions"),
            topic(self.changelog("release"), 1, "compact", -1, "champions and their record"),
        ]
