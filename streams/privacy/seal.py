"""Free text sealed under the keys of the players that it concerns (AES-256-GCM).

Sealed text is ``enc:v1:`` and base64 of: number of players (1 byte), their pseudonyms (16 bytes
each), nonce (12 bytes, random), ciphertext with its tag. What it belongs to (game, decision, field)
and the bytes before the nonce are authenticated, so that it opens nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.privacy import PSEUDONYM_BYTES, PSEUDONYM_PREFIX, SEALED_PREFIX

NONCE_BYTES = 12
"""Random for each text: 2^32 texts of one player keep a repeat under 2^-32 (NIST SP 800-38D)."""
TAG_BYTES = 16
KEY_BYTES = 32
_TEXT_KEY = b"grindstone/text-key/v1"
_TEXT = b"grindstone/text/v1"


class PrivacyError(RuntimeError):
    """Keys or sealed text are not as they must be."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """What a text belongs to."""

    game: str
    decision_id: str
    field: str
    """As the column of a window is called, with the key behind a dot where it is a map."""


def header_of(players: Sequence[str]) -> bytes:
    """Return how sealed text names the players whose keys it needs, all of them."""
    ids = (bytes.fromhex(p.removeprefix(PSEUDONYM_PREFIX)) for p in players)
    return bytes([len(players)]) + b"".join(ids)


def cipher_of(keys: Sequence[bytes]) -> AESGCM:
    """Return the cipher of a text that concerns these players.

    Its key is derived from all of theirs, so that destroying any one makes the text unreadable.
    """
    return AESGCM(hmac.digest(b"".join(keys), _TEXT_KEY + bytes([len(keys)]), hashlib.sha256))


def sealed_chars(n_bytes: int, n_players: int) -> int:
    """Return the length of sealed text of so many bytes in UTF-8."""
    n = 1 + n_players * PSEUDONYM_BYTES + NONCE_BYTES + n_bytes + TAG_BYTES
    return len(SEALED_PREFIX) + 4 * ((n + 2) // 3)


def seal(cipher: AESGCM, players: Sequence[str], place: Place, text: str) -> str:
    """Return a text, sealed for one place."""
    header, nonce = header_of(players), os.urandom(NONCE_BYTES)
    body = cipher.encrypt(nonce, text.encode("utf-8", "surrogatepass"), _bound(header, place))
    return SEALED_PREFIX + base64.b64encode(header + nonce + body).decode()


def players_of(sealed: str) -> tuple[str, ...]:
    """Return the pseudonyms of the players whose keys a sealed text needs.

    Raises:
        PrivacyError: it is no sealed text.
    """
    return _split(sealed)[0]


def unseal(cipher: AESGCM, place: Place, sealed: str) -> str:
    """Return the text of a sealed one.

    Raises:
        PrivacyError: it is none, it was changed, it was sealed for another place or with other
            keys.
    """
    players, nonce, body = _split(sealed)
    try:
        text = cipher.decrypt(nonce, body, _bound(header_of(players), place))
    except InvalidTag as error:
        msg = (
            f"{place.field} of decision {place.decision_id!r} must be as it was sealed, with the "
            f"same keys; got text that was changed, moved from elsewhere, or needs other keys"
        )
        raise PrivacyError(msg) from error
    return text.decode("utf-8", "surrogatepass")


def _bound(header: bytes, place: Place) -> bytes:
    return _TEXT + header + msgspec.msgpack.encode(place)


def _split(sealed: str) -> tuple[tuple[str, ...], bytes, bytes]:
    """Return the players, the nonce and the ciphertext."""
    try:
        data = base64.b64decode(sealed.removeprefix(SEALED_PREFIX), validate=True)
    except binascii.Error:
        data = b""
    n_head = 1 + (data[0] if data else 0) * PSEUDONYM_BYTES
    if not sealed.startswith(SEALED_PREFIX) or len(data) < n_head + NONCE_BYTES + TAG_BYTES:
        msg = f"sealed text must be {SEALED_PREFIX} and base64 of what was sealed; got another text"
        raise PrivacyError(msg)
    ids = (data[i : i + PSEUDONYM_BYTES] for i in range(1, n_head, PSEUDONYM_BYTES))
    players = tuple(PSEUDONYM_PREFIX + one.hex() for one in ids)
    return players, data[n_head : n_head + NONCE_BYTES], data[n_head + NONCE_BYTES :]
