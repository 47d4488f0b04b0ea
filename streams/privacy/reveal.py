"""Sealed text read again, by those who hold the keys."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from schemas.events import Decision, Detail, Language, Outcome
from schemas.privacy import ERASED, SEALED_PREFIX, UNREADABLE
from schemas.records import Experience
from streams.privacy.ingress import TEXT_FIELDS
from streams.privacy.seal import Place, PrivacyError, players_of, unseal
from streams.privacy.store import KeyStore

T = TypeVar("T")


class Revealer:
    """Gives events and rows back with their text in clear.

    Text of an erased player comes as ``<erased>``; text that does not open as ``<unreadable>``.
    """

    def __init__(self, store: KeyStore) -> None:
        """Take the keys."""
        self._store = store

    def __call__(self, row: T) -> T:
        """Return an event or row with its text; others as they are."""
        if not isinstance(row, Decision | Outcome | Experience):
            return row
        changed: dict[str, Any] = {}
        language = None if isinstance(row, Outcome) else row.language
        if language is not None:
            changed["language"] = self._language(row.game, row.decision_id, language)
        fields = {"details": "outcome_details" if isinstance(row, Outcome) else "details"}
        if isinstance(row, Experience):
            fields["outcome_details"] = "outcome_details"
        for name, sealed_as in fields.items():
            details = getattr(row, name)
            if details is not None:
                changed[name] = self._details(row.game, row.decision_id, sealed_as, details)
        return msgspec.structs.replace(row, **changed) if changed else row

    def text(self, place: Place, text: str) -> str:
        """Return a text of an event: in clear if it is sealed, else as it is."""
        if not text.startswith(SEALED_PREFIX):
            return text
        try:
            players = players_of(text)
            if any(self._store.state(player) == "erased" for player in players):
                return ERASED
            cipher = self._store.cipher(players)
            return ERASED if cipher is None else unseal(cipher, place, text)
        except PrivacyError:
            return UNREADABLE

    def _language(self, game: str, decision_id: str, language: Language) -> Language:
        told = {name: getattr(language, name) for name in TEXT_FIELDS}
        changed = {
            name: self.text(Place(game, decision_id, f"language_{name}"), text)
            for name, text in told.items()
            if text is not None
        }
        return msgspec.structs.replace(language, **changed)

    def _details(
        self, game: str, decision_id: str, field: str, details: dict[str, Detail]
    ) -> dict[str, Detail]:
        return {
            key: self.text(Place(game, decision_id, f"{field}.{key}"), value)
            if isinstance(value, str)
            else value
            for key, value in details.items()
        }
