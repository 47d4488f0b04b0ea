"""Whether a description fits the connector that is to play it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, TypeVar

import msgspec

from games.match import LiveSettings
from schemas.errors import SchemaError, from_msgspec, shown
from schemas.game import Game

S = TypeVar("S", bound=LiveSettings)


def fitted(
    game: Game,
    kind: type[S],
    *,
    shape: list[int],
    actions: list[str],
    archetypes: Sequence[str],
    domains: Sequence[str],
) -> S:
    """Returns the connector's settings of a description that has what the connector tells.

    Raises:
        SchemaError: a setting is unknown or out of range, or the description has another
            observation, other actions, or lacks an archetype or domain.
    """
    try:
        settings = msgspec.convert(game.settings, kind)
    except msgspec.ValidationError as error:
        found = from_msgspec(error, game.settings)
        path = found.path.replace("$", "$.settings", 1)
        raise SchemaError(path, found.rule, found.got) from error
    if game.observation.shape != shape:
        refuse_fit("$.observation.shape", shape, game.observation.shape)
    if game.actions.names != actions:
        refuse_fit("$.actions.names", actions, game.actions.names)
    for path, names, known in (
        ("$.archetypes", archetypes, list(game.archetypes)),
        ("$.domains", domains, list(game.domains)),
    ):
        for name in names:
            if name not in known:
                refuse_fit(path, f"a table with {name}", known)
    return settings


def refuse_fit(path: str, rule: object, got: object) -> NoReturn:
    """Raises the `SchemaError` of a description that does not fit."""
    raise SchemaError(path, rule if isinstance(rule, str) else shown(rule), shown(got))
