"""The key store: a key for each player, wrapped by the master key, in SQLite.

Erasing a player destroys the key and leaves a tombstone. All that was sealed with it is
unreadable from then on, wherever copies of it lie; the log is not touched.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from streams.privacy.master import (
    MASTER_FILE,
    Master,
    new_key,
    parse_key,
    read_master_file,
    sync_folder,
    write_master_file,
)
from streams.privacy.pseudonym import Pseudonymiser
from streams.privacy.seal import KEY_BYTES, PrivacyError, cipher_of

STORE_FILE = "keys.sqlite"
POLL_S = 1.0
"""A key that was erased elsewhere is used for at most so long."""
_BUSY_S = 30.0
_MAX_CACHED = 10_000
_PSEUDONYMS = b"pseudonyms"

KeyState = Literal["held", "erased", "unknown"]

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE keys (
    pseudonym TEXT PRIMARY KEY,
    wrapped BLOB,
    created_ms INTEGER NOT NULL,
    erased_ms INTEGER
) WITHOUT ROWID;
"""


class KeyStore:
    """Players' keys; safe to use from threads, and from several processes at a time.

    Raises:
        PrivacyError: there is no store in the folder, or its master key is not the one given.
    """

    def __init__(
        self,
        folder: Path,
        master_key: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the store of a folder; the master key (hex) is that of its file by default."""
        self.folder = folder
        self._given = None if master_key is None else Master(parse_key(master_key, "master key"))
        self._clock = clock
        self._lock = threading.RLock()
        self._ciphers: dict[tuple[str, ...], AESGCM] = {}
        path = folder / STORE_FILE
        if not path.is_file():
            msg = f"{path} must be there; it is missing (make it with `grindstone keys init`)"
            raise PrivacyError(msg)
        self._db = _connect(path)
        try:
            self._masters = self._read_masters()
            self._pseudonym_key = self._master().unwrap(_PSEUDONYMS, self._meta("pseudonyms"))
            self._seen, self._version = self._erasures(), self._data_version()
        except BaseException:
            self._db.close()
            raise
        self._next_poll = self._clock() + POLL_S

    @classmethod
    def create(cls, folder: Path, master_key: str | None = None) -> KeyStore:
        """Make a new store, with a master key file beside it unless the key is given.

        Raises:
            PrivacyError: there is one already.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / STORE_FILE
        if path.exists() or (folder / MASTER_FILE).exists():
            msg = f"{folder} must hold no keys yet; it does (they are never written over)"
            raise PrivacyError(msg)
        key = master_key or new_key()
        master = Master(parse_key(key, "master key"))
        if master_key is None:
            write_master_file(folder / MASTER_FILE, [key])
        aside = folder / f".{STORE_FILE}-{os.getpid()}"
        os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(_connect(aside)) as db:
            db.executescript(_TABLES)
            values = {
                "master": master.key_id.encode(),
                "erasures": b"0",
                "pseudonyms": master.wrap(_PSEUDONYMS, os.urandom(KEY_BYTES)),
            }
            db.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
        os.replace(aside, path)
        sync_folder(folder)
        return cls(folder, master_key)

    def close(self) -> None:
        """Close the store."""
        with self._lock:
            self._ciphers.clear()
            self._db.close()

    def __enter__(self) -> KeyStore:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    def pseudonymiser(self, prefix: str | None = None) -> Pseudonymiser:
        """Return what makes pseudonyms with this store's key."""
        return Pseudonymiser(self._pseudonym_key, prefix)

    def cipher(self, players: Sequence[str], *, create: bool = False) -> AESGCM | None:
        """Return the cipher of text that concerns these players.

        None when the key of one is destroyed; such a player gets no other key. A key that another
        process destroyed is noticed after `POLL_S` at the latest.

        Raises:
            PrivacyError: a player has no key here and none is to be made.
        """
        asked = tuple(players)
        with self._lock:
            self._poll()
            cipher = self._ciphers.get(asked)
            if cipher is None:
                keys = [self._key(player, create) for player in asked]
                held = [key for key in keys if key is not None]
                if len(held) < len(keys):
                    return None
                if len(self._ciphers) >= _MAX_CACHED:
                    self._ciphers.clear()
                cipher = self._ciphers[asked] = cipher_of(held)
            return cipher

    def state(self, pseudonym: str) -> KeyState:
        """Return whether a player's key is held, destroyed, or was never made."""
        with self._lock:
            row = self._row(pseudonym)
        return "unknown" if row is None else "erased" if row[0] is None else "held"

    def counts(self) -> dict[str, int]:
        """Return how many keys are held and how many were destroyed."""
        with self._lock:
            found = self._db.execute("SELECT count(wrapped), count(*) FROM keys").fetchone()
        return {"held": found[0], "erased": found[1] - found[0]}

    @property
    def master_id(self) -> str:
        """The name of the master key that wraps the others now."""
        with self._lock:
            return self._meta("master").decode()

    def erase(self, pseudonym: str) -> KeyState:
        """Destroy a player's key, durably; return the state before. Again does nothing more."""
        now = _now_ms()
        with self._lock:
            with self._transaction():
                row = self._row(pseudonym)
                if row is not None and row[0] is None:
                    return "erased"
                self._db.execute(
                    "INSERT INTO keys VALUES (?1, NULL, ?2, ?2) "
                    "ON CONFLICT (pseudonym) DO UPDATE SET wrapped = NULL, erased_ms = ?2",
                    (pseudonym, now),
                )
                self._set_meta("erasures", str(self._erasures() + 1).encode())
            self._ciphers.clear()
            return "unknown" if row is None else "held"

    def rotate(self) -> str:
        """Wrap all keys with a new master key, forget the old one, and return the new one's name.

        Copies of the store from before are worth nothing without a copy of the old master key.

        Raises:
            PrivacyError: the master key is a setting, not the store's file.
        """
        if self._given is not None:
            msg = (
                "the master key must be in the store's file to be changed; got one from the "
                "settings (unset GRINDSTONE_PRIVACY_MASTER_KEY and put it into master.key first)"
            )
            raise PrivacyError(msg)
        path = self.folder / MASTER_FILE
        with self._lock, self._transaction():
            # The keys' write lock is held: no second rotation can come between.
            old = self._master()
            kept = next(k for k in path.read_text("ascii").split() if _id(k) == old.key_id)
            fresh = new_key()
            write_master_file(path, [kept, fresh])  # who reads in between finds either
            new = Master(bytes.fromhex(fresh))
            self._rewrap(old, new)
        write_master_file(path, [fresh])
        self._masters = self._read_masters()
        return new.key_id

    def _rewrap(self, old: Master, new: Master) -> None:
        rows = self._db.execute("SELECT pseudonym, wrapped FROM keys WHERE wrapped IS NOT NULL")
        for pseudonym, wrapped in rows.fetchall():
            name = pseudonym.encode()
            again = new.wrap(name, old.unwrap(name, wrapped))
            self._db.execute("UPDATE keys SET wrapped = ? WHERE pseudonym = ?", (again, pseudonym))
        key = old.unwrap(_PSEUDONYMS, self._meta("pseudonyms"))
        self._set_meta("pseudonyms", new.wrap(_PSEUDONYMS, key))
        self._set_meta("master", new.key_id.encode())

    def _key(self, pseudonym: str, create: bool) -> bytes | None:
        """Return a player's key; None when it is destroyed."""
        with self._transaction(write=False):
            row, master = self._row(pseudonym), self._master()
        if row is None:
            if not create:
                msg = f"player {pseudonym} must have a key in {self.folder}; got none"
                raise PrivacyError(msg)
            with self._transaction():
                row, master = self._row(pseudonym), self._master()
                if row is None:
                    wrapped = master.wrap(pseudonym.encode(), os.urandom(KEY_BYTES))
                    self._db.execute(
                        "INSERT INTO keys VALUES (?, ?, ?, NULL)", (pseudonym, wrapped, _now_ms())
                    )
                    row = (wrapped,)
        return None if row[0] is None else master.unwrap(pseudonym.encode(), row[0])

    def _poll(self) -> None:
        """Forget the keys in memory when a player was erased by another process."""
        now = self._clock()
        if now < self._next_poll:
            return
        self._next_poll = now + POLL_S
        version = self._data_version()
        if version == self._version:
            return
        erasures = self._erasures()
        if erasures != self._seen:
            self._ciphers.clear()
        self._seen, self._version = erasures, version

    def _master(self) -> Master:
        """Return the master key in use; it may have been changed since the last look."""
        wanted = self._meta("master").decode()
        if wanted not in self._masters:
            self._masters = self._read_masters()
        if wanted not in self._masters:
            got = ", ".join(self._masters)
            msg = f"the master key of {self.folder} must be {wanted}; got {got}"
            raise PrivacyError(msg)
        return self._masters[wanted]

    def _read_masters(self) -> dict[str, Master]:
        found = [self._given] if self._given else read_master_file(self.folder / MASTER_FILE)
        return {master.key_id: master for master in found}

    def _row(self, pseudonym: str) -> tuple[bytes | None] | None:
        asked = "SELECT wrapped FROM keys WHERE pseudonym = ?"
        row: tuple[bytes | None] | None = self._db.execute(asked, (pseudonym,)).fetchone()
        return row

    def _meta(self, name: str) -> bytes:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return bytes(row[0])

    def _set_meta(self, name: str, value: bytes) -> None:
        self._db.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))

    def _erasures(self) -> int:
        return int(self._meta("erasures"))

    def _data_version(self) -> int:
        """Return a number that changes when another connection has written."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def _transaction(self, *, write: bool = True) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    # EXTRA also makes the end of the rollback journal durable: a power cut brings no key back.
    for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "secure_delete = ON"):
        db.execute(f"PRAGMA {pragma}").fetchall()
    return db


def _id(key: str) -> str:
    return Master(bytes.fromhex(key)).key_id


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
