"""The master key, which wraps all other keys: a file that only its owner reads, or a setting."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from streams.privacy.seal import KEY_BYTES, NONCE_BYTES, PrivacyError

MASTER_FILE = "master.key"
_WRAP = b"grindstone/wrap/v1\0"


class Master:
    """One master key."""

    def __init__(self, key: bytes) -> None:
        """Take 32 bytes."""
        self._cipher = AESGCM(key)
        self.key_id = hashlib.sha256(b"grindstone/master-id/v1\0" + key).hexdigest()[:16]
        """Tells master keys apart and says nothing of the key."""

    def wrap(self, name: bytes, key: bytes) -> bytes:
        """Return a key wrapped under a name; it unwraps under no other."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, _WRAP + name)

    def unwrap(self, name: bytes, wrapped: bytes) -> bytes:
        """Return a wrapped key.

        Raises:
            PrivacyError: it was wrapped by another master key, under another name, or changed.
        """
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _WRAP + name)
        except InvalidTag as error:
            msg = f"keys must be wrapped by master key {self.key_id}; got others, or damaged ones"
            raise PrivacyError(msg) from error


def parse_key(text: str, where: str) -> bytes:
    """Return a key that is written in hex.

    Raises:
        PrivacyError: it is not 64 hex digits; the text is not repeated.
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        msg = f"{where} must be a key of {2 * KEY_BYTES} hex digits; got something else"
        raise PrivacyError(msg)
    return key


def read_master_file(path: Path) -> list[Master]:
    """Return the master keys of a file: one, or two while they are being changed.

    Raises:
        PrivacyError: there is no such file, others than its owner may read it, or it holds no key.
    """
    try:
        mode = path.stat().st_mode & 0o777
        lines = path.read_text(encoding="ascii", errors="replace").split()
    except OSError as error:
        msg = f"{path} must be a file that can be read; got {error.strerror}"
        raise PrivacyError(msg) from error
    if mode & 0o077:
        msg = f"{path} must be for its owner alone (mode 0600); got {mode:04o} (chmod 600 it)"
        raise PrivacyError(msg)
    if not lines:
        msg = f"{path} must hold a key; it is empty"
        raise PrivacyError(msg)
    return [Master(parse_key(line, str(path))) for line in lines]


def write_master_file(path: Path, keys: list[str]) -> None:
    """Write keys in hex, mode 0600, in one step and durably."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".master-")  # 0600 from the start
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write("".join(f"{key}\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def new_key() -> str:
    """Return a fresh random key in hex."""
    return secrets.token_hex(KEY_BYTES)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
