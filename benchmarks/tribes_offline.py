"""A game without a stream: live play, the rewards fold and the learner in one process.

The fold settles what the game tells as the rewards process does, so that late outcomes, shared
credit and retaliation are in what is learned. The schedule is the live one: the scripted mix plays
until a version wins `--min-wins` of its gate matches; whichever has won most since then acts.

    python -m benchmarks.tribes_offline --seed 1 --decisions 150000 --set margin=0.1 --json
    python -m benchmarks.tribes_offline --game arena --decisions 600000
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import msgspec
import torch

from agents.policies.mix import EpsilonMix
from benchmarks.battle_offline import TorchRule, learner_with
from benchmarks.settling import Settling
from games.connectors import connector
from games.match import tally
from games.seeds import match_seeds
from infra.settings import GAMES_DIR
from learners.replay.rows import rows_of_table
from learners.settings import ModelSettings
from learners.trainer import Trainer
from schemas.columns import rows_to_table
from schemas.events import Tick
from schemas.game import Game, load_game
from schemas.records import Experience, Origin, Window, WindowRule

N_GATE = 200
TICK_TURNS = 4
"""Turns between two ticks, about as many as at the live pace."""


def window_of(game: Game, rows: Sequence[Experience], number: int) -> Window:
    """Return the announcement that a window of these rows would have."""
    return Window(
        window_id=f"{game.name}/{rows[0].archetype}/p0/{number}", game=game.name,
        archetype=rows[0].archetype, partition=0, n_rows=len(rows), digest="", files=[],
        first_origin=Origin(0, number, 0), last_origin=Origin(0, number, len(rows)),
        min_time_ms=0, max_time_ms=0, reward_versions=[], policy_versions={},
        rule=WindowRule(max_rows=len(rows), max_span_ms=1),
    )  # fmt: skip


class Run:
    """Play, settle and learn, and judge each version."""

    def __init__(self, options: argparse.Namespace, game: Game) -> None:
        """Begin with the scripted mix."""
        self._played = connector(game)
        name = self._played.archetype
        learner = learner_with(game.learners[name], options.set)
        settings = ModelSettings.of(game, name, options.seed)
        self._options, self._game = options, game
        self._trainer = Trainer(msgspec.structs.replace(settings, learner=learner))
        self._settings = self._played.settings(game)
        self._matches = self._played.live(game, options.seed, "offline")
        self._settling = Settling(game)
        self._best = options.min_wins - 1
        self.champion: TorchRule | None = None
        self.history: list[dict[str, float]] = []
        self.decisions = 0

    def go(self) -> None:
        """Play until all decisions asked for are taken."""
        held: list[Experience] = []
        turn, now_ms, n_told = 0, 1_000_000, 0
        while self.decisions < self._options.decisions:
            now_ms += round(1000 * n_told / self._settings.decisions_per_second)
            step = self._matches.step(now_ms)
            n_told = step.n_decisions
            self.decisions += step.n_decisions
            tick = [Tick(event_time_ms=now_ms, source="offline")] if turn % TICK_TURNS == 0 else []
            rows = self._settling.take([*step.events, *tick], now_ms)
            held += [row for row in rows if row.archetype == self._played.archetype]
            turn += 1
            if len(held) >= self._options.window:
                self._learn(held)
                held = []

    def _learn(self, held: list[Experience]) -> None:
        trainer, game = self._trainer, self._game
        table = rows_to_table(held, game.observation.size, game.actions.n)
        rows = rows_of_table(
            table, trainer.settings.shape, trainer.settings.learner.demonstration_policy
        )
        trainer.fold(window_of(game, held, trainer.lineage.n_windows), rows)
        while trainer.n_owed > 0:
            trainer.update()
            if trainer.due_registration():
                self._judge()

    def _judge(self) -> None:
        version = len(self.history) + 1
        candidate = TorchRule(self._trainer.algorithm.policy, f"v{version:04d}")
        seeds = match_seeds("gate", "offline", f"{self._options.seed}/{version}", N_GATE // 2)
        played = self._played.play(candidate, self._played.scripted(), seeds, n_worlds=N_GATE)
        result = tally(played)
        if result.wins > self._best:
            former = [] if self.champion is None else [self.champion]
            rivals = [EpsilonMix(rule, self._settings.epsilon) for rule in former]
            self._matches.earlier = [*rivals, *self._matches.earlier]
            del self._matches.earlier[self._settings.earlier_versions :]
            self._best, self.champion = result.wins, candidate
        if self.champion is not None:
            self._matches.policy = EpsilonMix(self.champion, self._settings.epsilon)
        line = {
            "version": version,
            "decisions": self.decisions,
            "updates": self._trainer.n_updates,
            "win_rate": result.wins / result.n,
            "cpu_s": round(time.process_time(), 1),
            **{k: round(v, 4) for k, v in self._trainer.measures.items()},
        }
        self.history.append(line)
        print(json.dumps(line), file=sys.stderr, flush=True)


def main() -> None:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--game", default="tribes", help="one that is played here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decisions", type=int, default=250_000)
    parser.add_argument("--window", type=int, default=2048, help="rows a window")
    parser.add_argument("--min-wins", type=int, default=20, help="gate matches of 200 to act")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true", help="Print facts as JSON.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    game = load_game(GAMES_DIR / options.game / f"{options.game}.toml")
    run = Run(options, game)
    run.go()
    seeds = match_seeds("final", "offline", str(options.seed), 100)
    played = connector(game)
    final = tally(played.play(run.champion or played.scripted(), played.scripted(), seeds))
    found = {
        "seed": options.seed,
        "decisions": run.decisions,
        "final_win_rate": final.wins / final.n,
        "history": run.history,
    }
    print(json.dumps(found) if options.json else f"won {found['final_win_rate']:.1%} of {final.n}")


if __name__ == "__main__":
    main()
