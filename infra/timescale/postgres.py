"""A PostgreSQL server as a process of this machine: the system's own, or one in a Debian tree."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from infra.kafka.errors import BrokerError
from infra.kafka.server import ServerProcess

CHECKOUT = Path(__file__).parents[2]
TREE = CHECKOUT / ".grindstone" / "timescale" / "tree"
"""PostgreSQL with TimescaleDB, made by `make timescale`."""
OLDEST = 15

CONFIGURATION = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "40",
    "max_wal_size": "1GB",
    "shared_buffers": "128MB",
}
TIMESCALE = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.license": "apache",
    "timescaledb.telemetry_level": "off",
}
STOP_S = 20.0


class PostgresRunner(ServerProcess):
    """One server on one folder, which another program may have started.

    PostgreSQL refuses to run as root. Where we are root it runs in a user namespace of its own, in
    which it is another user: nothing need be handed over to a system account.
    """

    def __init__(self, folder: Path, tree: Path | None = None) -> None:
        super().__init__(folder, "server.log")
        self._tree = tree

    def launch(self, port: int, user: str, password: str) -> None:
        """Starts the server on the folder's data, which it makes when there is none.

        Raises:
            BrokerError: the data could not be made.
        """
        self._make_data(user, password)
        given = {**CONFIGURATION, "port": str(port)}
        if self._tree is not None:
            given.update(TIMESCALE)
        options = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        self._spawn(
            self._boxed("postgres", "-D", self._inside("data"), *options), self._environment()
        )

    def note(self) -> None:
        """Keeps the name of the server's process, which may be one below the one we started."""
        try:
            first = (self.folder / "data" / "postmaster.pid").read_text("utf-8").split()[0]
        except (FileNotFoundError, IndexError):
            return
        self._note(int(first))

    def stop(self) -> None:
        """Ends the server cleanly; sessions are broken off."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Ends the server at once, as ``pg_ctl stop -m immediate`` does: the next start recovers.

        A SIGKILL would leave its children at work for a moment, on the same data.
        """
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        self.note()
        name = self.process()
        if name is not None and not name.send(how, STOP_S) and not name.send(signal.SIGQUIT, 5.0):
            message = f"the database (process {name.pid}) must end; got no end in {STOP_S:.0f} s"
            raise BrokerError(message)
        self._reap()

    def _make_data(self, user: str, password: str) -> None:
        data = self.folder / "data"
        if (data / "PG_VERSION").exists() and not (self.folder / "half-made").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "half-made").touch()
        shutil.rmtree(data, ignore_errors=True)
        secret = self.folder / "password"
        secret.touch(0o600)
        secret.write_text(password, "utf-8")
        words = ["initdb", "-D", self._inside("data"), "-U", user, "--auth=scram-sha-256"]
        words += [f"--pwfile={self._inside('password')}", "--encoding=UTF8", "--locale=C"]
        try:
            self._prepare(
                self._boxed(*words, "--no-sync"),
                "the database's folder could not be made ready",
                self._environment(),
            )
        finally:
            secret.unlink()
        (self.folder / "half-made").unlink()

    def _inside(self, name: str) -> str:
        """The path of a file of the folder, as the server sees it."""
        return str((self.folder if self._tree is None else Path("/mnt")) / name)

    def _boxed(self, program: str, *words: str) -> Sequence[str]:
        if self._tree is None:
            return [*_as_user(), str(newest_server() / program), *words]
        folders = sorted((self._tree / "usr/lib/postgresql").iterdir())
        inside = Path("/") / folders[-1].relative_to(self._tree) / "bin" / program
        uid, gid = _ids(self._tree / "etc" / "passwd")
        # fmt: off
        return [
            "bwrap", "--unshare-user", "--uid", uid, "--gid", gid, "--unshare-ipc", "--unshare-uts",
            "--ro-bind", str(self._tree), "/", "--dev", "/dev", "--proc", "/proc",
            "--tmpfs", "/tmp", "--tmpfs", "/run", "--bind", str(self.folder), "/mnt",
            "--chdir", "/mnt", "--", str(inside), *words,
        ]
        # fmt: on

    def _environment(self) -> dict[str, str]:
        # PG... variables of ours are for clients; LANG may name what the tree does not have
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def newest_server() -> Path:
    """The folder of the newest PostgreSQL's programs on this machine.

    Raises:
        BrokerError: there is none of version 15 or later.
    """
    found = find_server()
    if found is None:
        message = (
            f"PostgreSQL must be version {OLDEST} or later; none was found: "
            f"sudo apt-get install -y --no-install-recommends postgresql"
        )
        raise BrokerError(message)
    return found


def find_server() -> Path | None:
    """As `newest_server`, but None when there is none."""
    places = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    known = [(int(p.parts[-3]), p.parent) for p in places if p.parts[-3].isdecimal()]
    known = [(version, folder) for version, folder in known if version >= OLDEST]
    if known:
        return max(known)[1]
    other = shutil.which("postgres")
    if other is None:
        return None
    said = subprocess.run([other, "--version"], capture_output=True, text=True, check=False).stdout
    version = said.rpartition(")")[2].split() or said.split()[-1:]
    major = version[0].partition(".")[0] if version else ""
    fits = major.isdecimal() and int(major) >= OLDEST
    return Path(other).resolve().parent if fits else None


def has_tree() -> bool:
    """Whether `make timescale` was done, and what it takes to run it is here."""
    return TREE.is_dir() and shutil.which("bwrap") is not None


def _as_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        ids = [f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"]
        return ["unshare", "--user", *ids, "--"]
    return []


def _ids(passwd: Path) -> tuple[str, str]:
    for line in passwd.read_text("utf-8").splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if name == "postgres":
            return uid, gid
    message = f"{passwd} must have the user postgres: remove {TREE} and type `make timescale`"
    raise BrokerError(message)
