"""Battle without a stream: the same replay and learner, to tune settings by CPU seconds.

Plays matches in this process, gives the rows to a `learners.trainer.Trainer` window by window and
reports the win rate against the scripted pack. The schedule is the live one: the scripted mix
plays until the first champion, a version comes every ``register_every_updates``, and a version
that wins more gate matches than the champion did takes over. With ``--behind`` the packs play more
windows than the learner takes, as they do where a learner is too slow for its game.

    python -m benchmarks.battle_offline --seed 1 --learner-seconds 100 --set n_step=1 --json
    python -m benchmarks.battle_offline --seed 1 --updates 2400 --behind 2
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from agents.policies.choice import Choice, Uniforms, choose, one_hot
from agents.policies.mix import EpsilonMix
from games.battle.legal import legal_actions
from games.battle.matches import play_matches
from games.battle.scripted import ScriptedPolicy, ScriptedRule
from games.battle.world import MAX_CYCLES, BattleWorld
from games.match import tally
from games.seeds import match_seed, match_seeds
from learners.networks import ValueGraph
from learners.replay.rows import Names, WindowRows
from learners.settings import ModelSettings
from learners.trainer import Trainer
from schemas.game import Game, Learner, load_game
from schemas.records import Origin, Window, WindowRule

GAME_FILE = Path(__file__).parents[1] / "games" / "battle" / "battle.toml"
SCALE, N_GATE = 0.2, 200
LIFE = -0.4  # battle@2: what a death costs beyond MAgent2's own -0.1


class TorchRule:
    """The greedy policy of a copy of the learner's graph."""

    def __init__(self, graph: ValueGraph, version: str) -> None:
        """Copy the weights: later updates do not change this policy."""
        self.version = version

        self._graph = copy.deepcopy(graph)

    def distribution(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """See `Rule.distribution`."""
        if not len(observations):
            return np.zeros(legal.shape)
        with torch.no_grad():
            values = self._graph(torch.from_numpy(observations), torch.from_numpy(legal))
        return one_hot(values.argmax(1).numpy(), legal.shape[1])

    def act(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_], rng: Uniforms
    ) -> Choice:
        """See `Policy.act`."""
        return choose(self.distribution(observations, legal), legal, 0.0, rng)


class Arena:
    """Worlds in which one pack learns from playing the scripted one."""

    def __init__(self, n_worlds: int, seed: int) -> None:
        """Start a match in every world; the learning pack changes sides from match to match."""
        self._worlds = [BattleWorld() for _ in range(n_worlds)]
        self._seed, self._n_matches = seed, 0
        self._sides = [0] * n_worlds
        self._episodes = [""] * n_worlds
        self._rng = np.random.default_rng([seed, 7])
        self._scripted = ScriptedPolicy()
        for k in range(n_worlds):
            self._restart(k)

    def _restart(self, k: int) -> None:
        self._worlds[k].reset(match_seed("live", self._seed, self._n_matches))
        self._sides[k] = self._n_matches % 2
        self._episodes[k] = f"m{self._n_matches}"
        self._n_matches += 1

    def step(self, policy: EpsilonMix) -> list[dict[str, object]]:
        """One step of every world; returns columns of each world's rows."""
        ours = [w.observations(s).copy() for w, s in zip(self._worlds, self._sides, strict=True)]
        theirs = [
            w.observations(1 - s).copy() for w, s in zip(self._worlds, self._sides, strict=True)
        ]
        seen, facing = np.concatenate(ours), np.concatenate(theirs)
        masks = legal_actions(seen)
        choice = policy.act(seen, masks, self._rng)
        answer = self._scripted.act(facing, legal_actions(facing), self._rng)
        rows, i, j = [], 0, 0
        for k, world in enumerate(self._worlds):
            n, m = len(ours[k]), len(theirs[k])
            mine = choice.actions[i : i + n]
            actions = (mine, answer.actions[j : j + m])
            acted = world.step(*(actions if self._sides[k] == 0 else actions[::-1]))
            rows.append(
                self._rows(k, ours[k], masks[i : i + n], mine, acted[self._sides[k]])
                | {"explored": choice.explored[i : i + n], "version": policy.version}
            )
            i, j = i + n, j + m
            if world.over:
                self._restart(k)
        return rows

    def window(self, policy: EpsilonMix, n_rows: int) -> WindowRows:
        """Play until there are so many rows, and return them."""
        parts: list[dict[str, object]] = []
        size = 0
        while size < n_rows:
            parts += self.step(policy)
            size = sum(len(p["actor"]) for p in parts)  # type: ignore[arg-type, misc]
        return window_rows(parts)

    def _rows(
        self, k: int, seen: NDArray[np.float32], masks: NDArray[np.bool_],
        actions: NDArray[np.int64], acted: object,
    ) -> dict[str, object]:  # fmt: skip
        world, n = self._worlds[k], len(seen)
        alive = acted.alive  # type: ignore[attr-defined]
        following = np.zeros_like(seen)
        following[alive] = world.observations(self._sides[k])
        ended = world.annihilated
        return {
            "observation": seen, "legal": masks, "action": actions,
            "reward": np.clip(SCALE * acted.rewards + LIFE * ~alive, -1, 1),  # type: ignore[attr-defined]
            "next": following, "terminated": ~alive | ended,
            "truncated": np.full(n, world.steps >= MAX_CYCLES and not ended) & alive,
            "step": np.full(n, world.steps),
            "actor": [f"w{k}-{s}" for s in acted.slots],  # type: ignore[attr-defined]
            "episode": [self._episodes[k]] * n,
        }  # fmt: skip


def window_rows(parts: Sequence[dict[str, object]]) -> WindowRows:
    """Return the columns of many worlds' rows as a window holds them."""

    def column(name: str) -> NDArray[np.generic]:
        return np.concatenate([np.asarray(p[name]) for p in parts])

    terminated = column("terminated").astype(np.bool_)
    scripted = np.concatenate([
        ~np.asarray(p["explored"]) & (p["version"] == "scripted") for p in parts
    ])  # fmt: skip
    following = column("next").astype(np.float32)
    n = len(terminated)
    return WindowRows(
        observation=column("observation").astype(np.float32),
        legal=column("legal").astype(np.uint8),
        next_observation=following,
        next_legal=legal_actions(following).astype(np.uint8),
        has_next=~terminated,
        action=column("action").astype(np.int64),
        reward=column("reward").astype(np.float64),
        terminated=terminated,
        truncated=column("truncated").astype(np.bool_),
        settled=np.ones(n, np.bool_),
        revision=np.zeros(n, np.int64),
        demonstration=scripted,
        step=column("step").astype(np.int64),
        actor=Names.of(column("actor").tolist()),
        episode=Names.of(column("episode").tolist()),
    )


def window_of(number: int, n_rows: int, first: int) -> Window:
    """Return the announcement that a window of these rows would have."""
    return Window(
        window_id=f"battle/pack/p0/{first}.{number}", game="battle", archetype="pack",
        partition=0, n_rows=n_rows, digest="", files=[], first_origin=Origin(0, first, 0),
        last_origin=Origin(0, first + n_rows - 1, 0), min_time_ms=0, max_time_ms=0,
        reward_versions=[], policy_versions={}, rule=WindowRule(max_rows=n_rows, max_span_ms=1),
    )  # fmt: skip


def wilson_lower(wins: int, n: int) -> float:
    """Return the lower 95 % Wilson bound."""
    z, p = 1.96, wins / n
    middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - spread) / (1 + z * z / n)


def run(options: argparse.Namespace, game: Game, learner: Learner) -> dict[str, object]:
    """Play and train until the learner has had its CPU seconds; returns what came of it."""
    settings = msgspec.structs.replace(
        ModelSettings.of(game, next(iter(game.learners)), options.seed), learner=learner
    )
    trainer, arena = Trainer(settings), Arena(options.worlds, options.seed)
    policy = EpsilonMix(ScriptedRule(), options.epsilon)
    best, champion, decisions, spent, version = -1, None, 0, 0.0, 0
    history: list[dict[str, float]] = []
    waiting: deque[WindowRows] = deque()
    while spent < options.learner_seconds and trainer.n_updates < options.updates:
        waiting += [arena.window(policy, options.window) for _ in range(1 + options.behind)]
        rows = waiting.popleft()
        begun = time.process_time()
        trainer.fold(window_of(trainer.lineage.n_windows, len(rows), decisions), rows)
        decisions += len(rows)
        while trainer.n_owed > 0 and trainer.n_updates < options.updates:
            trainer.update()
            if not trainer.due_registration():
                continue
            spent += time.process_time() - begun
            version += 1
            candidate = TorchRule(trainer.algorithm.policy, f"v{version:04d}")
            seeds = match_seeds("gate", "offline", f"{options.seed}/{version}", N_GATE // 2)
            result = tally(play_matches(candidate, ScriptedPolicy(), seeds))
            if result.wins > best and result.wins >= options.min_wins:
                best, champion = result.wins, candidate
            if champion is not None:
                acting = candidate if options.ungated else champion
                policy = EpsilonMix(acting, options.epsilon)
            line = {
                "version": version, "learner_s": round(spent, 1), "decisions": decisions,
                "updates": trainer.n_updates, "win_rate": result.wins / result.n,
                "draws": result.draws / result.n,
                **{k: round(v, 4) for k, v in trainer.measures.items()},
            }  # fmt: skip
            history.append(line)
            print(json.dumps(line), file=sys.stderr, flush=True)
            begun = time.process_time()
        spent += time.process_time() - begun
    final = tally(
        play_matches(
            champion or ScriptedPolicy(), ScriptedPolicy(),
            match_seeds("final", "offline", str(options.seed), 100),
        )
    )  # fmt: skip
    return {
        "seed": options.seed, "decisions": decisions, "updates": trainer.n_updates,
        "learner_s": spent, "best_gate": best / N_GATE, "final_win_rate": final.wins / final.n,
        "final_lower95": wilson_lower(final.wins, final.n), "history": history,
    }  # fmt: skip


def learner_with(base: Learner, changes: Sequence[str]) -> Learner:
    """Return learner settings with ``name=json`` changes, checked as the game file is."""
    values = msgspec.to_builtins(base)
    for change in changes:
        name, _, value = change.partition("=")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return msgspec.convert(values, Learner)


def main() -> None:
    """Read the options, run, print one JSON object or a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learner-seconds", type=float, default=100.0)
    parser.add_argument("--updates", type=int, default=sys.maxsize, help="stop after so many")
    parser.add_argument("--behind", type=int, default=0, help="windows played on for each taken")
    parser.add_argument("--worlds", type=int, default=32)
    parser.add_argument("--window", type=int, default=512, help="rows a window")
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--min-wins", type=int, default=20, help="gate matches of 200 to act")
    parser.add_argument("--ungated", action="store_true", help="the newest version acts")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    game = load_game(GAME_FILE)
    result = run(options, game, learner_with(next(iter(game.learners.values())), options.set))
    if options.json:
        print(json.dumps(result))
    else:
        print({k: v for k, v in result.items() if k != "history"})


if __name__ == "__main__":
    main()
