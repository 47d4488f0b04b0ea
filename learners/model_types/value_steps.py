"""Steps for the replay: out of a log's rows, and out of practice by epsilon-greedy choices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.replay.form import RowForm, Steps
from learners.results import End, credit, ended_matches
from learners.stack.seeds import Draws
from schemas.practice import Bools, Episodes, Floats, Head, Ints, Layout, Practice, Result, View

COLUMNS: dict[str, tuple[tuple[int, ...], str]] = {
    "logged": ((), "uint8"),
    "demonstration": ((), "uint8"),
    "propensity": ((), "float32"),
}
"""Of a row beside its transition: came it by `fit`, was it the traditional AI's choice, and with
what probability was it chosen."""


def row_form(layout: Layout, head: Head) -> RowForm:
    """Return the replay's columns for choices of a head."""
    return RowForm(layout.n_features, layout.n_actions[head], columns=COLUMNS)


def logged_steps(rows: Episodes, head: Head, reward_weight: float = 1.0) -> Steps:
    """Return a log's rows with a share of their rewards.

    Where a mask is not known (behind a truncation) the row's own stands: a step's choice is at best
    as good as what was legal there, and the mask changes slowly.
    """
    n = len(rows)
    episode, ends = _episodes(rows)
    return Steps(
        observation=rows.observation,
        action=rows.action[head],
        reward=rows.reward * np.float32(reward_weight),
        terminated=rows.terminated,
        truncated=ends & ~rows.terminated,
        actor=np.zeros(n, np.int64),
        step=rows.step,
        episode=episode,
        legal=rows.legal[head],
        next_observation=rows.next_observation,
        next_legal=rows.legal[head],
        has_next=ends & ~rows.terminated,
        columns={
            "logged": np.ones(n, np.uint8),
            "demonstration": (rows.policy_version == 0).astype(np.uint8),
            "propensity": rows.propensity[head],
        },
    )


def _episodes(rows: Episodes) -> tuple[Ints, Bools]:
    """Return the rows' episodes, numbered from 0, and which rows are their episode's last."""
    episode = np.cumsum(rows.first) - 1
    last = np.ones(len(rows), np.bool_)
    last[:-1] = episode[1:] != episode[:-1]
    return episode, last


def known_masks(rows: Episodes, head: Head) -> tuple[Bools, Bools]:
    """Return the masks [N, A] of rows and of what follows them, the last row's own for its."""
    legal, (_, ends) = rows.legal[head], _episodes(rows)
    following = np.roll(legal, -1, axis=0)
    return legal, np.where(ends[:, None], legal, following)


@dataclasses.dataclass(slots=True)
class Practised:
    """Steps of each model [S] and what was measured."""

    steps: list[Steps]
    measures: dict[str, NDArray[np.float32]]


def explore(scores: Floats, legal: Bools, epsilon: float, draws: Draws) -> tuple[Ints, Floats]:
    """Return epsilon-greedy choices [S, B] and the probability of each.

    ``P = (1 - epsilon) [a = best] + epsilon / n_legal``; where nothing is legal 0 is chosen.
    """
    best = scores.argmax(-1)
    n_legal = np.maximum(legal.sum(-1), 1)
    drawn = draws.random(2, scores.shape[1])
    place = (drawn[:, 1] * n_legal).astype(np.int64) + 1
    other = (legal.cumsum(-1) >= np.minimum(place, n_legal)[..., None]).argmax(-1)
    choice = np.where(drawn[:, 0] < epsilon, other, best)
    chance = (1.0 - epsilon) * (choice == best) + epsilon / n_legal
    return choice, chance.astype(np.float32)


class Gatherer:
    """Plays a world for some steps and keeps what every actor saw, chose and earned."""

    def __init__(self, world: Practice, head: Head, n_matches: int, seed: int) -> None:
        """Begin matches."""
        self._world, self._head = world, head
        self._view = world.begin(head, n_matches, seed)
        self._columns: dict[str, list[NDArray[Any]]] = {}
        self._step = np.zeros(self._view.alive.shape, np.int64)
        self._episode = np.zeros(self._view.alive.shape, np.int64)
        n_models = len(self._view.alive)
        self._won: list[list[float]] = [[] for _ in range(n_models)]

    def play(
        self,
        choose: Callable[[View], tuple[Ints, Floats]],
        n_steps: int,
        result_weight: float = 0.0,
        reward_weight: float = 1.0,
        gain_weight: float = 0.0,
    ) -> Practised:
        """Play on; rewards are a share of the world's, and what gains and a match's result add."""
        ended: list[End] = []
        pack = self._world.layout.pack
        for t in range(n_steps):
            before = self._view
            choice, chance = choose(before)
            self._view, result = self._world.step(choice)
            self._keep(before, choice, chance, result)
            ended += ended_matches(t, self._view.first, result.matches, pack)
            for model, result_of_match in result.matches:
                self._won[model].append(result_of_match)
        columns = {name: np.stack(parts, 1) for name, parts in self._columns.items()}  # [S, T, B]
        measures = self._measures(columns)
        columns["reward"] *= np.float32(reward_weight)
        if gain_weight > 0 and "gain" in columns:
            columns["reward"] += np.float32(gain_weight) * columns["gain"]
        if result_weight > 0:
            credit(
                columns["reward"], columns["alive"], columns["truncated"], ended, pack,
                result_weight,
            )  # fmt: skip
        self._cut(columns)
        return Practised([self._steps(columns, i) for i in range(len(self._won))], measures)

    def _keep(self, before: View, choice: Ints, chance: Floats, result: Result) -> None:
        ended = (result.terminated | result.truncated) & before.alive
        self._step[before.first] = 0
        row = {
            "observation": before.observation, "legal": before.legal, "alive": before.alive,
            "action": choice, "propensity": chance, "reward": result.reward,
            "terminated": result.terminated, "truncated": result.truncated & ~result.terminated,
            "next": result.last_observation, "step": self._step.copy(),
            "episode": self._episode.copy(),
        }  # fmt: skip
        if result.gain is not None:
            row["gain"] = result.gain
        for name, value in row.items():
            self._columns.setdefault(name, []).append(value)
        self._step += 1
        self._episode[ended] += 1

    def _cut(self, columns: dict[str, NDArray[Any]]) -> None:
        """Where practice stops in mid-match, what is seen last is bootstrapped from."""
        columns["next_legal"] = columns["legal"].copy()
        open_rows = columns["alive"][:, -1] & ~columns["terminated"][:, -1]
        cut = open_rows & ~columns["truncated"][:, -1]
        columns["next_legal"][:, -1][cut] = self._view.legal[cut]
        columns["truncated"][:, -1] |= cut

    def _steps(self, columns: dict[str, NDArray[Any]], i: int) -> Steps:
        alive = columns["alive"][i]
        one = {name: column[i][alive] for name, column in columns.items()}
        n = len(one["reward"])
        actor = np.broadcast_to(np.arange(alive.shape[1]), alive.shape)[alive]
        return Steps(
            observation=one["observation"], action=one["action"], reward=one["reward"],
            terminated=one["terminated"], truncated=one["truncated"],
            actor=actor.astype(np.int64), step=one["step"], episode=one["episode"],
            legal=one["legal"], next_observation=one["next"], next_legal=one["next_legal"],
            has_next=one["truncated"],
            columns={
                "logged": np.zeros(n, np.uint8), "demonstration": np.zeros(n, np.uint8),
                "propensity": one["propensity"],
            },
        )  # fmt: skip

    def _measures(self, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        alive = columns["alive"]
        n_rows = np.maximum(alive.sum((1, 2)), 1)
        ended = ((columns["terminated"] | columns["truncated"]) & alive).sum((1, 2))
        measures = {
            "reward": (columns["reward"] * alive).sum((1, 2)) / n_rows,
            "episode_length": n_rows / np.maximum(ended, 1),
        }
        if all(self._won):
            measures["win_rate"] = np.array([np.mean(won) for won in self._won])
        return {name: value.astype(np.float32) for name, value in measures.items()}
