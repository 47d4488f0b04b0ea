"""Play of the game's own AI against itself."""

from collections.abc import Sequence

from games.connectors import connector
from games.match import LiveMatches
from infra.bootstrap.source import Asked, Source
from schemas.errors import SchemaError, refuse, shown
from schemas.events import ActorEvent
from schemas.game import Game


def scripted(game: Game, asked: Asked) -> Source:
    """The scripted play of a game.

    Raises:
        SchemaError: no scripted play of it is known, or its description does not fit it.
    """
    try:
        played = connector(game)
    except SchemaError:
        rule = "scripted for a game that is played here only"
        refuse("SOURCE", rule, shown(game.name), "synthetic fits any game")
    return _Scripted(played.live(game, asked.seed, asked.incarnation))


class _Scripted:
    """Matches of the game's own AI; `scripted_epsilon` of its decisions are random."""

    def __init__(self, matches: LiveMatches) -> None:
        self._matches = matches

    def step(self, now_ms: int) -> Sequence[ActorEvent]:
        return self._matches.step(now_ms).events
