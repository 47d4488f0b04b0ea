"""What goes into replay and what comes out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.practice import Episodes, Head

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MAX_ACTORS = 1 << 16
"""Of a match."""

Storage = Literal["float16", "float32"]


@dataclasses.dataclass(frozen=True, slots=True)
class RowForm:
    """The columns of a ring's rows."""

    n_features: int
    """D."""
    n_actions: int
    """A choices; 0 where actions are continuous."""
    n_continuous: int = 0
    """K numbers of a continuous action; 0 where actions are choices."""
    storage: Storage = "float16"
    """Of observations."""
    columns: Mapping[str, tuple[tuple[int, ...], str]] = dataclasses.field(default_factory=dict)
    """Further columns by name: shape of a row and dtype, as ``{"propensity": ((), "float32")}``."""
    masked: bool = True
    """Whether legal choices are kept; else all masks are [.., 0]."""
    sources: bool = False
    """Whether it is kept where vectors come from, so that a checkpoint need not hold them."""

    @property
    def n_masks(self) -> int:
        """Width of a mask."""
        return self.n_actions if self.masked else 0


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """N steps of one model's actors, each actor's in the order of time; actors may take turns.

    A step follows another where the actor and the episode are the same, `step` is one higher, and
    the earlier one neither terminated nor was truncated. It may come with a later `add`.
    """

    observation: NDArray[np.floating[Any]]
    """[N, D]."""
    action: NDArray[Any]
    """[N], or [N, K] floats."""
    reward: NDArray[np.floating[Any]]
    terminated: Bools
    truncated: Bools
    actor: Ints
    """[N] numbers that tell this model's actors apart, 0 and up."""
    step: Ints
    """[N], rising by one within an episode."""
    episode: Ints | None = None
    """[N] numbers; None: an actor's step 0 begins its next one."""
    legal: NDArray[Any] | None = None
    """[N, A] bool or 0 and 1; None: all are."""
    next_observation: NDArray[np.floating[Any]] | None = None
    """[N, D] what was seen after the step, where `has_next`. Needed where a step is truncated; else
    the observation of the step that follows is taken, and this costs nothing where it is equal."""
    next_legal: NDArray[Any] | None = None
    has_next: Bools | None = None
    """[N]; None: all that did not terminate, if there is a `next_observation`."""
    settled: Bools | None = None
    """[N]; False where the reward is not known: it ends the returns before it. None: all are."""
    source: Ints | None = None
    """[N] numbers >= 0 by which the vectors of a row are found again, if the form asks for them;
    a ring keeps the complement ``~source`` with a next observation."""
    columns: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    """[N, ...] of each of the form's further columns."""

    def __len__(self) -> int:
        """Return N."""
        return len(self.reward)


def steps_of(rows: Episodes, head: Head) -> Steps:
    """Return an archetype's rows as steps of one head's choices."""
    episode = rows.match * MAX_ACTORS + rows.actor
    _, actor = np.unique(episode, return_inverse=True)
    return Steps(
        observation=rows.observation,
        action=rows.aim if head == "aim" else rows.action[head],
        reward=rows.reward,
        terminated=rows.terminated,
        truncated=rows.truncated,
        actor=actor,
        step=rows.step,
        episode=episode,
        legal=None if head == "aim" else rows.legal[head],
        next_observation=rows.next_observation,
    )


class Batch(msgspec.Struct, frozen=True):
    """B transitions ``(s, a, R, gamma^m, s')`` of each of S models."""

    observation: NDArray[np.floating[Any]]
    """[S, B, D] in the ring's storage type."""
    legal: NDArray[np.uint8]
    """[S, B, A]."""
    next_observation: NDArray[np.floating[Any]]
    """[S, B, D]; where the discount is 0 it means nothing (the row's own observation)."""
    next_legal: NDArray[np.uint8]
    action: NDArray[Any]
    """[S, B] int64, or [S, B, K] float32."""
    reward: NDArray[np.float32]
    """n-step returns ``sum of gamma^k r_k`` over the m <= n steps taken."""
    discount: NDArray[np.float32]
    """``gamma^m``; 0 where the episode terminated."""
    weight: NDArray[np.float32]
    """Importance weights; the largest of each model's batch is 1."""
    slots: Ints
    """[S, B] for `set_errors`."""
    columns: Mapping[str, NDArray[Any]]
    """[S, B, ...] of the form's further columns."""

    def of(self, model: int) -> Batch:
        """Return one model's transitions, without the axis S."""
        columns = {name: values[model] for name, values in self.columns.items()}
        names = [name for name in self.__struct_fields__ if name != "columns"]
        return Batch(columns=columns, **{name: getattr(self, name)[model] for name in names})


@dataclasses.dataclass(frozen=True, slots=True)
class Sequences:
    """B unbroken sequences of T = burn-in + length steps of one actor's episode, for S models."""

    observation: NDArray[np.floating[Any]]
    """[S, B, T, D]; zeros where `there` is false."""
    legal: NDArray[np.uint8]
    action: NDArray[Any]
    reward: NDArray[np.float32]
    """[S, B, T] of the single step."""
    terminated: Bools
    """[S, B, T]: nothing is bootstrapped behind this step."""
    truncated: Bools
    there: Bools
    """[S, B, T]: false behind an episode's end."""
    learned: Bools
    """[S, B, T]: `there`, and not burn-in."""
    last_observation: NDArray[np.floating[Any]]
    """[S, B, D] what was seen after the last step that is there: what it bootstraps from."""
    last_legal: NDArray[np.uint8]
    bootstraps: Bools
    """[S, B]: `last_observation` is known and the last step did not terminate."""
    weight: NDArray[np.float32]
    """[S, B]."""
    slots: Ints
    """[S, B] of the first step that is learned, for `set_errors`."""
    columns: Mapping[str, NDArray[Any]]
    """[S, B, T, ...]."""
