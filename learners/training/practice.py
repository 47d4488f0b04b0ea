"""A world as a training sees it: as hard as the curriculum says, its matches counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from schemas.practice import Floats, Head, Layout, Practice, Result, View


class GradedWorld:
    """Another world with the difficulty of each model's stage; a `schemas.practice.Practice`."""

    def __init__(self, world: Practice) -> None:
        """Grade a world; the difficulty is the world's own until it is set."""
        self._world = world
        self.layout: Layout = world.layout
        self.difficulty: list[int] | None = None
        """[S], or None for what a caller asks for."""
        self.matches: list[tuple[int, float]] = []
        """What ended since the last `begin`: model, and what its home side made of it."""

    def begin(
        self, head: Head, n_matches: int, seed: int, difficulty: int | Sequence[int] = 2
    ) -> View:
        """Begin matches as hard as the stages say."""
        graded = difficulty if self.difficulty is None else self.difficulty
        self.matches = []
        return self._world.begin(head, n_matches, seed, graded)

    def step(self, choice: NDArray[Any] | None) -> tuple[View, Result]:
        """Take a step and count what ended."""
        view, result = self._world.step(choice)
        self.matches += result.matches
        return view, result

    def play(
        self,
        head: Head,
        policy: Callable[[View], NDArray[Any]] | None,
        n_matches: int,
        seed: int,
        difficulty: int | Sequence[int] = 2,
    ) -> Floats:
        """Play as the world does: matches that judge are as hard as is asked for."""
        return self._world.play(head, policy, n_matches, seed, difficulty)
