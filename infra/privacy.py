"""Players' keys as the settings say: the store, what protects events, what shows text."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from infra.settings import Settings
from schemas.game import Game

if TYPE_CHECKING:
    from streams.privacy import Ingress, KeyStore, Revealer


def open_keys(settings: Settings) -> "KeyStore":
    """The key store.

    Raises:
        PrivacyError: there is none, or the master key is another one's.
    """
    from streams.privacy import KeyStore

    return KeyStore(settings.keys_dir.resolve(), settings.privacy.master_key)


def protect_of(settings: Settings, game: Game) -> "Ingress | None":
    """What a game's writer does to events before the log; None for a game without players.

    Raises:
        PrivacyError: the game has players and there is no key store.
    """
    if game.privacy is None:
        return None
    from streams.privacy import Ingress

    return Ingress(open_keys(settings), game.privacy.player_prefix)


@contextmanager
def revealing(settings: Settings, asked: bool) -> "Iterator[Revealer | None]":
    """What gives rows back with their text in clear, where that was asked for.

    Raises:
        PrivacyError: there is no key store.
    """
    if not asked:
        yield None
        return
    from streams.privacy import Revealer

    with open_keys(settings) as store:
        yield Revealer(store)
