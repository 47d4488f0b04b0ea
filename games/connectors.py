"""The games that can be played here, by the name in their description."""

from __future__ import annotations

import importlib
from typing import Final

from games.match import Connector
from schemas.errors import refuse, shown
from schemas.game import Game

_MODULES: Final = {
    "arena": "games.arena.connector",
    "battle": "games.battle.connector",
    "tribes": "games.tribes.connector",
}
"""Imported when asked for: a game loads its own engine and no other's."""


def connector(game: Game) -> Connector:
    """Returns what plays the game of a description.

    Raises:
        SchemaError: no game of that name is played here; one of your own writes its events itself.
    """
    module = _MODULES.get(game.name)
    if module is None:
        known = ", ".join(sorted(_MODULES))
        remedy = "a game of your own writes its events itself"
        refuse("$.game", f"one of {known} to be played here", shown(game.name), remedy)
    found: Connector = importlib.import_module(module).CONNECTOR
    return found
