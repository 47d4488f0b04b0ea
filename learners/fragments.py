"""Fragments of play of S models side by side: gathered in a world, or cut out of logged rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from learners.model_types.base import LearnError
from learners.results import End, credit, ended_matches
from schemas.practice import Bools, Episodes, Floats, Head, Ints, Practice, View


@dataclasses.dataclass(frozen=True, slots=True)
class Fragments:
    """T steps of B rows of each model; within a column time runs unbroken but for `first`."""

    observation: Floats
    """[S, T, B, D]."""
    last_observation: Floats
    """[S, T, B, D] after each step, before any new match: what a cut row bootstraps from."""
    legal: Bools
    """[S, T, B, A]."""
    action: Ints
    """[S, T, B]."""
    log_behaviour: Floats
    """[S, T, B] log-probability of the action under the policy that chose it."""
    reward: Floats
    terminated: Bools
    truncated: Bools
    """A fragment's last step counts as cut by the match's limit: its row bootstraps, too."""
    first: Bools
    valid: Bools
    """[S, T, B]: false where the actor was dead, or where a column is only padding."""

    @property
    def n_steps(self) -> int:
        """Return T."""
        return int(self.observation.shape[1])

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return all columns as tensors by name, for a checkpoint."""
        names = [f.name for f in dataclasses.fields(self)]
        return {f"{prefix}{n}": torch.from_numpy(getattr(self, n).copy()) for n in names}

    @classmethod
    def of_tensors(cls, state: Mapping[str, torch.Tensor], prefix: str) -> Fragments:
        """Return what `tensors` was taken of."""
        return cls(*(state[f"{prefix}{f.name}"].numpy().copy() for f in dataclasses.fields(cls)))


def joined(parts: Sequence[Fragments]) -> Fragments:
    """Return fragments of equal T side by side, as one with more columns."""
    names = [f.name for f in dataclasses.fields(Fragments)]
    return Fragments(*(np.concatenate([getattr(p, n) for p in parts], 2) for n in names))


Act = Callable[[int, View], tuple[NDArray[Any], NDArray[Any]]]
"""Step and view to choices [S, B] (or aims) and their log-probabilities [S, B]."""


def gather(
    world: Practice,
    head: Head,
    act: Act,
    n_matches: int,
    n_steps: int,
    seed: int,
    result_weight: float = 0.0,
    reward_weight: float = 1.0,
    gain_weight: float = 0.0,
) -> tuple[Fragments, dict[str, NDArray[np.float32]]]:
    """Return the fragments of ``n_steps`` steps and what they measure, each [S].

    Measures are "reward" (a step), "episode_length" and, where every archetype finished a match,
    "win_rate".

    Args:
        world: to act in.
        head: whose choices are made.
        act: makes them.
        n_matches: of each archetype, side by side.
        n_steps: T.
        seed: of the matches.
        result_weight: added to the last reward of every actor of a match that was won, and taken
            from it where it was lost: of the fallen, too, whose fall the others paid for or not.
            A match that reached the limit of steps counts for nobody.
        reward_weight: share of the world's own rewards that is paid.
        gain_weight: what each step's `Result.gain` counts; a world that tells none pays none.

    Raises:
        LearnError: gains alone are to be paid and the world tells none.
    """
    view = world.begin(head, n_matches, seed)
    columns: dict[str, list[NDArray[Any]]] = {}
    won: list[tuple[int, float]] = []
    ended: list[End] = []
    gains: list[Floats] = []
    for t in range(n_steps):
        choice, log_behaviour = act(t, view)
        before = view
        view, result = world.step(choice)
        won += result.matches
        ended += ended_matches(t, view.first, result.matches, world.layout.pack)
        gains += [] if result.gain is None else [result.gain]
        step = {
            "observation": before.observation, "last_observation": result.last_observation,
            "legal": before.legal, "action": choice, "log_behaviour": log_behaviour,
            "reward": result.reward, "terminated": result.terminated,
            "truncated": result.truncated, "first": before.first, "valid": before.alive,
        }  # fmt: skip
        for name, value in step.items():
            columns.setdefault(name, []).append(np.array(value))
    stacked = {name: np.stack(values, 1) for name, values in columns.items()}
    stacked["truncated"][:, -1] |= ~stacked["terminated"][:, -1]
    fragments = Fragments(**stacked)
    measures = _measures(fragments, won)
    np.multiply(fragments.reward, np.float32(reward_weight), out=fragments.reward)
    if not gains and gain_weight > 0 and reward_weight == result_weight == 0:
        rule = "0, or not all that is paid, in a world that tells no gains"
        msg = f"gain_weight must be {rule}; got {gain_weight}: set reward_weight"
        raise LearnError(msg)
    if gains and gain_weight > 0:
        fragments.reward[...] += np.float32(gain_weight) * np.stack(gains, 1)
    if result_weight > 0:
        credit(
            fragments.reward, fragments.valid, fragments.truncated & fragments.valid, ended,
            world.layout.pack, result_weight,
        )  # fmt: skip
    return fragments, measures


def _measures(
    fragments: Fragments, won: Sequence[tuple[int, float]]
) -> dict[str, NDArray[np.float32]]:
    valid = fragments.valid.sum((1, 2))
    ended = (fragments.terminated | fragments.truncated) & fragments.valid
    reward = np.where(fragments.valid, fragments.reward, 0.0).sum((1, 2))
    measures = {
        "reward": reward / np.maximum(valid, 1),
        "episode_length": valid / np.maximum(ended.sum((1, 2)), 1),
    }
    results = [[score for s, score in won if s == i] for i in range(len(valid))]
    if all(results):
        measures["win_rate"] = np.array([np.mean(scores) for scores in results])
    return {name: value.astype(np.float32) for name, value in measures.items()}


def of_rows(
    rows: Sequence[Episodes], head: Head, n_steps: int, usable: Sequence[Bools], pack: int = 0
) -> Fragments:
    """Cut logged rows into fragments of ``n_steps`` steps.

    Args:
        rows: of each model [S].
        head: whose choices to take.
        n_steps: T; an episode is cut into as many pieces as it takes, each a column.
        usable: [N] for each model; other rows are there but not valid.
        pack: where not 0, the actors of a match's pack lie side by side as so many columns and
            share the match's steps.
    """
    places = [_by_pack(r, n_steps, pack) if pack else _by_actor(r, n_steps) for r in rows]
    width = max(pack, 1)
    n_columns = max(int(b.max(initial=0)) // width + 1 for _, b in places) * width
    fragments = _empty(rows[0], head, (len(rows), n_steps, n_columns))
    for s, (r, (t, b)) in enumerate(zip(rows, places, strict=True)):
        fragments.observation[s, t, b] = r.observation
        fragments.last_observation[s, t, b] = r.next_observation
        fragments.legal[s, t, b] = r.legal[head]
        fragments.action[s, t, b] = r.action[head]
        fragments.log_behaviour[s, t, b] = np.log(r.propensity[head])
        fragments.reward[s, t, b] = r.reward
        fragments.terminated[s, t, b] = r.terminated
        fragments.truncated[s, t, b] = r.truncated
        fragments.first[s, t, b] = r.first
        fragments.valid[s, t, b] = usable[s]
        there = np.zeros((n_steps, n_columns), np.bool_)
        there[t, b] = True
        # what a window cut off goes on somewhere else: bootstrap there, not in the padding
        cut = there & ~np.concatenate([there[1:], np.zeros_like(there[:1])])
        fragments.truncated[s] |= cut & ~fragments.terminated[s]
    return fragments


def _empty(like: Episodes, head: Head, shape: tuple[int, int, int]) -> Fragments:
    n_features, n_actions = like.observation.shape[1], like.legal[head].shape[1]
    return Fragments(
        observation=np.zeros((*shape, n_features), np.float32),
        last_observation=np.zeros((*shape, n_features), np.float32),
        legal=np.ones((*shape, n_actions), np.bool_),
        action=np.zeros(shape, np.int64),
        log_behaviour=np.zeros(shape, np.float32),
        reward=np.zeros(shape, np.float32),
        terminated=np.zeros(shape, np.bool_),
        truncated=np.zeros(shape, np.bool_),
        first=np.zeros(shape, np.bool_),
        valid=np.zeros(shape, np.bool_),
    )


def _by_actor(rows: Episodes, n_steps: int) -> tuple[Ints, Ints]:
    """Return each row's step within its piece and the number of its piece."""
    starts = np.flatnonzero(rows.first)
    since = np.arange(len(rows)) - np.repeat(starts, np.diff([*starts, len(rows)]))
    step: Ints = since % n_steps
    return step, (step == 0).cumsum() - 1


def _by_pack(rows: Episodes, n_steps: int, pack: int) -> tuple[Ints, Ints]:
    """Return each row's step within its piece, and its actor's column in the piece's pack."""
    _, number = np.unique(np.stack([rows.match, rows.actor // pack]), axis=1, return_inverse=True)
    number = number.reshape(-1)
    n_packs = int(number.max(initial=-1)) + 1
    start = np.full(n_packs, np.iinfo(np.int64).max)
    np.minimum.at(start, number, rows.step)
    step = rows.step - start[number]
    pieces = np.zeros(n_packs, np.int64)
    np.maximum.at(pieces, number, step // n_steps + 1)
    piece = (pieces.cumsum() - pieces)[number] + step // n_steps
    return step % n_steps, piece * pack + rows.actor % pack


def is_fresh(rows: Episodes, max_lag: int) -> Bools:
    """Return which rows an on-policy loss may learn from.

    Those of the newest policy version among the rows and of ``max_lag`` versions before it; never
    those of the traditional AI (version 0).
    """
    newest = int(rows.policy_version.max(initial=0))
    fresh: Bools = (rows.policy_version > 0) & (rows.policy_version >= newest - max_lag)
    return fresh
