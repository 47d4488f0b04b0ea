"""A player's pseudonym: a keyed hash of the player's id."""

from __future__ import annotations

import hashlib
import hmac

from schemas.errors import refuse
from schemas.privacy import PSEUDONYM_BYTES, PSEUDONYM_PREFIX, is_pseudonym

_PURPOSE = b"grindstone/player/v1\0"
_MAX_REMEMBERED = 65_536


class Pseudonymiser:
    """Turns players' ids into pseudonyms: ``p_`` and 128 bits of HMAC-SHA256 in hex.

    The same id under the same key gives the same pseudonym in every game, so that one erasure
    reaches all of them; without the key nobody can try ids out. Only the id proper is hashed:
    ``player:7`` where the prefix is ``player:``, and ``7``, are one player.
    """

    def __init__(self, key: bytes, prefix: str | None = None) -> None:
        """Take the key (32 bytes) and the prefix that marks players among a game's actors."""
        self._key = key
        self.prefix = prefix
        self._known: dict[str, str] = {}

    def is_player(self, actor_id: str) -> bool:
        """Return whether an actor's or an opponent's id is that of a human player."""
        return self.prefix is not None and actor_id.startswith(self.prefix)

    def bare(self, player: str) -> str:
        """Return a player's id without the game's prefix."""
        return player if self.prefix is None else player.removeprefix(self.prefix)

    def __call__(self, player: str) -> str:
        """Return the pseudonym of a player's id; a pseudonym is its own.

        Raises:
            SchemaError: nothing is left of the id without its prefix.
        """
        known = self._known.get(player)
        if known is not None:
            return known
        bare = self.bare(player)
        if not bare:
            refuse("a player's id", "more than its prefix", "the prefix alone")
        if bare == player and is_pseudonym(player):
            return player
        digest = hmac.digest(self._key, _PURPOSE + bare.encode(), hashlib.sha256)
        made = PSEUDONYM_PREFIX + digest[:PSEUDONYM_BYTES].hex()
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[player] = made
        return made
