"""The connector's own settings, from the `settings` table of the game's description."""

from __future__ import annotations

from typing import Annotated, Final, NoReturn

import msgspec
from msgspec import Meta

from games.battle.legal import ACTION_NAMES
from games.battle.world import CHANNELS, VIEW
from schemas.errors import SchemaError, from_msgspec, shown
from schemas.game import Game

ARCHETYPE: Final = "fighter"
DOMAIN: Final = "combat"

Share = Annotated[float, Meta(ge=0, le=1)]


class BattleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the live game is played."""

    worlds: Annotated[int, Meta(ge=1, le=1024)] = 32
    """Matches that run at a time."""
    decisions_per_second: Annotated[float, Meta(gt=0)] = 2100.0
    """The game never decides more often, so that learning has the rest of the machine."""
    epsilon: Share = 0.05
    """Share of the learned policy's decisions drawn at random among the legal actions."""
    scripted_epsilon: Share = 0.1
    """The same for the scripted policy, which plays until there is a champion."""
    opponent_random: Share = 0.05
    """Share of matches against the random pack."""
    opponent_earlier: Share = 0.1
    """Share of matches against earlier champions, while there are none the scripted pack."""
    earlier_versions: Annotated[int, Meta(ge=0, le=20)] = 3
    """How many former champions stay as opponents."""


def battle_settings(game: Game) -> BattleSettings:
    """Returns the settings of a description that fits this connector.

    Raises SchemaError for a setting that is unknown or out of range, and for a description of
    another observation, other actions, or without the archetype and domain of the pack.
    """
    try:
        settings = msgspec.convert(game.settings, BattleSettings)
    except msgspec.ValidationError as error:
        found = from_msgspec(error, game.settings)
        path = found.path.replace("$", "$.settings", 1)
        raise SchemaError(path, found.rule, found.got) from error
    shares = settings.opponent_random + settings.opponent_earlier
    if shares > 1:
        rule = "at most 1 together with opponent_random"
        _refuse("$.settings.opponent_earlier", rule, settings.opponent_earlier)
    shape, names = [VIEW, VIEW, CHANNELS], list(ACTION_NAMES)
    if game.observation.shape != shape:
        _refuse("$.observation.shape", shape, game.observation.shape)
    if game.actions.names != names:
        _refuse("$.actions.names", names, game.actions.names)
    for path, name, known in (
        ("$.archetypes", ARCHETYPE, list(game.archetypes)),
        ("$.domains", DOMAIN, list(game.domains)),
    ):
        if name not in known:
            _refuse(path, f"a table with {name}", known)
    return settings


def _refuse(path: str, rule: object, got: object) -> NoReturn:
    raise SchemaError(path, rule if isinstance(rule, str) else shown(rule), shown(got))
