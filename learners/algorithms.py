"""The algorithms a game description can name, and what a trainer needs of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from learners.dqn import DoubleDqn, Update
from learners.networks import ValueGraph
from learners.replay.form import Batch
from learners.settings import ModelSettings


class Algorithm(Protocol):
    """Learns from batches of transitions; equal seeds and batches make equal weights."""

    name: str

    @property
    def policy(self) -> ValueGraph:
        """The graph that games are given."""

    def fit_normaliser(self, observations: NDArray[np.float32]) -> None:
        """Fix the normaliser from observations [N, D]."""

    def update(self, batch: Batch) -> Update:
        """Take one gradient step."""

    def values(
        self, observation: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the policy's values [B, A], illegal actions masked."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of all tensors that the next update depends on."""

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take a `state`."""


ALGORITHMS: dict[str, Callable[[ModelSettings, torch.device], Algorithm]] = {"dqn": DoubleDqn}
"""Every algorithm by the name the game description uses."""


def choose_device(name: str) -> torch.device:
    """Return the device of a setting: "auto" is CUDA where it is there, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
