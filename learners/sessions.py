"""What a learner process asks of the sessions that train its models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import torch
from aiokafka.partitioner import murmur2

from learners.checkpoint import Cursor
from learners.session import ModelSession, Taken, Workplace, resume_offset
from learners.settings import ModelSettings
from schemas.game import Game
from schemas.model_events import Registered
from schemas.records import Window


class Session(Protocol):
    """Trains on the windows of one key; see `learners.session.ModelSession`."""

    refused: list[str]
    """Why something was passed over; the process tells and empties it."""

    @property
    def cursor(self) -> Cursor:
        """How far it has come in the log of windows."""

    @property
    def labels(self) -> dict[str, str]:
        """What its metrics are labelled with."""

    @property
    def snapshot(self) -> dict[str, float]:
        """What its metrics say; "updates" and "owed_updates" among them."""

    @property
    def busy(self) -> bool:
        """Whether there is work, or a version to announce."""

    @property
    def asks(self) -> list[str]:
        """Models whose champion is wanted before the work goes on."""

    def answer(self, champions: Mapping[str, str]) -> None:
        """Take the champions, version by model, of those that have one."""

    def take(self, window: Window, partition: int, offset: int) -> Taken:
        """Take the window announced at an offset of `replay-windows`."""

    def work(self, seconds: float) -> Registered | None:
        """Work for about so long; returns a version to announce, if one is due."""

    def announced(self) -> None:
        """Take note that the pending version is on `models`."""

    def save(self) -> None:
        """Write down where it is."""


class Sessions(Protocol):
    """All that can be opened."""

    def keys(self) -> list[str]:
        """Return the keys of `replay-windows` that are trained on."""

    def models(self, key: str) -> list[str]:
        """Return the models that the session of a key makes versions of."""

    def writer(self, key: str) -> str:
        """Return the transactional id of a key's session, without prefix."""

    def open(self, key: str, device: torch.device) -> Session:
        """Open a session where an earlier one was."""

    def resume_offset(self, key: str, partition: int) -> int:
        """Return from which offset of a partition a key needs its windows; 0: from the first."""


class GameSessions(msgspec.Struct, frozen=True, kw_only=True):
    """`Sessions` of the learners that game descriptions name."""

    games: list[Game]
    place: Workplace
    seed: int = 0

    def settings(self) -> dict[str, ModelSettings]:
        """Return the settings of every model that has a learner, by key."""
        return {
            f"{game.name}/{archetype}": ModelSettings.of(game, archetype, self.seed)
            for game in self.games
            for archetype in game.learners
        }

    def keys(self) -> list[str]:
        """Return the keys of `replay-windows` that are trained on."""
        return list(self.settings())

    def models(self, key: str) -> list[str]:
        """Return the models that the session of a key makes versions of."""
        return [self.settings()[key].model]

    def writer(self, key: str) -> str:
        """Return the transactional id of a key's session, without prefix."""
        return f"learner-{self.settings()[key].model}"

    def open(self, key: str, device: torch.device) -> Any:
        """Open a session where an earlier one was."""
        return ModelSession(self.settings()[key], self.place, device)

    def resume_offset(self, key: str, partition: int) -> int:
        """Return from which offset of a partition a key needs its windows; 0: from the first."""
        return resume_offset(self.place, self.settings()[key], partition)


def partition_of(key: str, n_partitions: int) -> int:
    """Return the partition of a key as Java's and aiokafka's default partitioners choose it."""
    hashed: int = murmur2(key.encode())
    return (hashed & 0x7FFFFFFF) % max(1, n_partitions)
