"""What a player's traces look like on the log: pseudonyms and sealed text."""

from __future__ import annotations

import re

from schemas.errors import refuse
from schemas.events import ActorEvent, Decision

PSEUDONYM_PREFIX = "p_"
PSEUDONYM_BYTES = 16
SEALED_PREFIX = "enc:v1:"
ERASED = "<erased>"
"""Stands where text was, once the key of a player it concerned is destroyed."""
WITHHELD = "<withheld>"
"""Stands for text of which the writer could not tell which players it concerns."""
UNREADABLE = "<unreadable>"
"""Stands for sealed text that was changed, moved, or sealed with another key store."""

_PSEUDONYM = re.compile(r"p_[0-9a-f]{32}")


def is_pseudonym(text: str) -> bool:
    """Return whether an id has the form of a pseudonym."""
    return _PSEUDONYM.fullmatch(text) is not None


def refuse_raw_player(event: ActorEvent) -> None:
    """Let no player's own id through to the log.

    Raises:
        SchemaError: a decision names a player by anything but a pseudonym; the id is not repeated.
    """
    if type(event) is Decision and event.player_id is not None:
        if not is_pseudonym(event.player_id):
            refuse(
                "$.player_id",
                "a pseudonym where the writer makes none",
                "a player's own id",
                "give the writer the game's `protect`; see docs/privacy.md",
            )
