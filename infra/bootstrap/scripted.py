"""Play of the game's own AI against itself."""

from collections.abc import Callable, Mapping, Sequence

from infra.bootstrap.source import Asked, Source
from schemas.errors import refuse, shown
from schemas.events import ActorEvent
from schemas.game import Game


def scripted(game: Game, asked: Asked) -> Source:
    """The scripted play of a game.

    Raises:
        SchemaError: no scripted play of it is known, or its description does not fit it.
    """
    make = PLAYS.get(game.name)
    if make is None:
        known = ", ".join(sorted(PLAYS))
        refuse("SOURCE", f"scripted for {known} only", shown(game.name), "synthetic fits any game")
    return make(game, asked)


class _Battle:
    """Matches of the scripted pack; `scripted_epsilon` of its decisions are random."""

    def __init__(self, game: Game, asked: Asked) -> None:
        from games.battle.play import LiveMatches
        from games.battle.settings import battle_settings

        self._matches = LiveMatches(battle_settings(game), asked.seed, asked.incarnation)

    def step(self, now_ms: int) -> Sequence[ActorEvent]:
        return self._matches.step(now_ms).events


PLAYS: Mapping[str, Callable[[Game, Asked], Source]] = {"battle": _Battle}
"""By name of the game; each imports its game when it is asked for."""
