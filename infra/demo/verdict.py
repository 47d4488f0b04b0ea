"""The final verdict: the champion from its ONNX file on matches that no gate has seen.

    python -m infra.demo.verdict < request.json > verdict.json

It runs in a process of its own, so that a game's engine and onnxruntime load while the run is
still being wound up.
"""

import sys
from pathlib import Path
from typing import Literal

import msgspec

from schemas.evidence import wilson
from schemas.game import load_game

N_SEEDS = 100
"""Each seed is played from both sides: 200 matches."""

Policy = Literal["learned", "scripted", "random", "first"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to judge; a policy without a folder is not played."""

    game: str
    """Path of its description."""
    seed: int
    learned: str | None
    """Folder of the champion."""
    first: str | None
    """Folder of the first version that was registered."""
    n_seeds: int = N_SEEDS


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Matches of one policy against the scripted AI."""

    policy: Policy
    wins: int
    draws: int
    losses: int

    @property
    def n(self) -> int:
        """Matches played."""
        return self.wins + self.draws + self.losses

    @property
    def win_rate(self) -> float:
        """Share of matches won; a draw is not won."""
        return self.wins / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the win rate."""
        return wilson(self.wins, self.n)


def judge(request: Request) -> list[Score]:
    """Plays every policy of the request on the same final seeds against the scripted AI.

    Raises:
        PolicyError: a folder's files do not match its manifest.
    """
    from agents.policies import OnnxPolicy, RandomPolicy
    from agents.policies import Policy as Player
    from games.connectors import connector
    from games.match import tally
    from games.seeds import match_seeds

    description = load_game(request.game)
    game = connector(description)
    scripted = game.scripted()
    players: dict[Policy, Player] = {"scripted": scripted, "random": RandomPolicy()}
    for name, folder in (("learned", request.learned), ("first", request.first)):
        if folder is not None:
            players[name] = OnnxPolicy.load(Path(folder))  # type: ignore[index]
    seeds = match_seeds("final", f"{description.name}/{request.seed}", "", request.n_seeds)
    scores = []
    for name, player in players.items():
        count = tally(game.play(player, scripted, seeds))
        score = Score(policy=name, wins=count.wins, draws=count.draws, losses=count.losses)
        scores.append(score)
    return scores


def main() -> None:
    """Answers the request on stdin."""
    from infra.supervisor import die_with_parent

    die_with_parent()
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    sys.stdout.buffer.write(msgspec.json.encode(judge(request)))


if __name__ == "__main__":
    main()
