"""What is done to an event before the log: players become pseudonyms, their text is sealed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from schemas.errors import refuse
from schemas.events import ActorEvent, Decision, Detail, EpisodeEnd, Language, Outcome, Snapshot
from schemas.limits import MAX_DETAIL_CHARS, MAX_TEXT_CHARS
from schemas.privacy import ERASED, WITHHELD
from streams.privacy.seal import Place, seal, sealed_chars
from streams.privacy.store import KeyStore

TEXT_FIELDS = ("prompt", "response", "reasoning")
N_REMEMBERED = 65_536
"""Latest decisions whose players are known, for outcomes do not name them."""
_MIN_TOLD_CHARS = 6
"""A shorter id without prefix occurs in other ids by chance."""

E = TypeVar("E", bound=ActorEvent)
Players = tuple[str, ...]


class Ingress:
    """Protects the events of one game's writer; `EventWriter` and `BlockingEventWriter` call it.

    `player_id` always names a player; `actor_id` and `opponent_id` do where they begin with the
    game's prefix. Text of an event that concerns players is sealed under the keys of all of them.
    """

    def __init__(self, store: KeyStore, player_prefix: str | None) -> None:
        """Take the keys and the prefix of the game's description."""
        self._store = store
        self._pseudonym = store.pseudonymiser(player_prefix)
        self._players: dict[str, Players] = {}
        self._change: dict[type, Callable[[Any], dict[str, Any]]] = {
            Decision: self._decision,
            Outcome: self._outcome,
            Snapshot: self._snapshot,
            EpisodeEnd: self._episode_end,
        }

    def __call__(self, event: E) -> E:
        """Return the event as it may be written.

        Raises:
            SchemaError: an id that stays readable holds a player's own, or text is too long to be
                sealed. Neither the id nor the text is repeated.
        """
        changed = self._change[type(event)](event)
        return msgspec.structs.replace(event, **changed) if changed else event

    def _decision(self, event: Decision) -> dict[str, Any]:
        changed = self._ids(event, ("player_id", "actor_id", "opponent_id"))
        players = tuple(dict.fromkeys(changed.values()))
        self._remember(event.decision_id, players)
        if not players:
            return changed
        self._keep_out(event, changed, "decision_id", "world", "episode", "action_type", "arm")
        sealer = _Sealer(self._store, players, event.game, event.decision_id)
        if event.language is not None:
            changed["language"] = _language(sealer, event.language)
        if event.details is not None:
            changed["details"] = _details(sealer, "details", event.details)
        return changed

    def _outcome(self, event: Outcome) -> dict[str, Any]:
        changed = self._ids(event, ("actor_id",))
        self._keep_out(event, changed, "decision_id")
        if event.details is None or not any(isinstance(v, str) for v in event.details.values()):
            return changed
        known = self._players.get(event.decision_id)
        if known is None and not changed:
            # Nobody knows whom it concerns: to lose it is better than to tell it.
            changed["details"] = {
                k: WITHHELD if isinstance(v, str) else v for k, v in event.details.items()
            }
            return changed
        players = tuple(dict.fromkeys((*(known or ()), *changed.values())))
        if players:
            sealer = _Sealer(self._store, players, event.game, event.decision_id)
            changed["details"] = _details(sealer, "outcome_details", event.details)
        return changed

    def _snapshot(self, event: Snapshot) -> dict[str, Any]:
        return self._ids(event, ("actor_id", "opponent_id"))

    def _episode_end(self, event: EpisodeEnd) -> dict[str, Any]:
        changed = self._ids(event, ("actor_id",))
        self._keep_out(event, changed, "world", "episode")
        return changed

    def _ids(self, event: ActorEvent, names: Sequence[str]) -> dict[str, Any]:
        """Return the fields that name players, with their pseudonyms."""
        found = {}
        for name in names:
            value = getattr(event, name)
            if value is not None and (name == "player_id" or self._pseudonym.is_player(value)):
                found[name] = self._pseudonym(value)
        return found

    def _keep_out(self, event: ActorEvent, changed: dict[str, Any], *names: str) -> None:
        """Refuse ids that hold a player's own and would carry it past the pseudonym."""
        for field in changed:
            told = getattr(event, field)
            bare = self._pseudonym.bare(told)
            part = bare if len(bare) >= _MIN_TOLD_CHARS else told
            if changed[field] == told or len(part) < _MIN_TOLD_CHARS:
                continue
            for name in names:
                if part in (getattr(event, name) or ""):
                    rule = f"without the player's id that {field} has"
                    refuse(f"$.{name}", rule, "an id that holds it", "make it from other parts")

    def _remember(self, decision_id: str, players: Players) -> None:
        if len(self._players) >= N_REMEMBERED:
            self._players.pop(next(iter(self._players)), None)
        self._players[decision_id] = players


class _Sealer:
    """Seals the texts of one event."""

    def __init__(self, store: KeyStore, players: Players, game: str, decision_id: str) -> None:
        self._store, self._players = store, players
        self._game, self._decision_id = game, decision_id

    def __call__(self, field: str, text: str, max_chars: int) -> str:
        n_bytes = len(text.encode("utf-8", "surrogatepass"))
        if sealed_chars(n_bytes, len(self._players)) > max_chars:
            rule = f"text that has at most {max_chars} characters when it is sealed"
            refuse(f"$.{field}", rule, f"{n_bytes} bytes", "cut it; sealing adds a third")
        cipher = self._store.cipher(self._players, create=True)
        if cipher is None:
            return ERASED
        place = Place(self._game, self._decision_id, field)
        return seal(cipher, self._players, place, text)


def _language(sealer: _Sealer, language: Language) -> Language:
    told = {name: getattr(language, name) for name in TEXT_FIELDS}
    changed = {
        name: sealer(f"language_{name}", text, MAX_TEXT_CHARS)
        for name, text in told.items()
        if text is not None
    }
    return msgspec.structs.replace(language, **changed)


def _details(sealer: _Sealer, field: str, details: dict[str, Detail]) -> dict[str, Detail]:
    return {
        key: sealer(f"{field}.{key}", value, MAX_DETAIL_CHARS) if isinstance(value, str) else value
        for key, value in details.items()
    }
