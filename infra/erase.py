"""`grindstone erase`: destroys a player's key and says which windows and versions used the data."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec

from infra.decoding import model_event
from infra.reading import Look
from infra.settings import Settings
from infra.sql import quoted
from infra.times import show_time
from schemas.model_events import Registered
from streams.privacy import KeyStore, PrivacyError

AUDIT_FILE = "audit.jsonl"
PLAYER_COLUMNS = ("player_id", "actor_id", "opponent_id")


class WindowUse(msgspec.Struct, frozen=True, kw_only=True):
    """A window that holds rows about the player."""

    window: str
    """Its file's path below the archive (or the backtests) without the ending."""
    game: str
    archetype: str
    n_rows: int
    places: list[tuple[int, int]]
    """Partition and offset on `game-events` of each row."""


class VersionUse(msgspec.Struct, frozen=True, kw_only=True):
    """A model version that learned from a range of the log with rows about the player in it."""

    model: str
    version: str
    time_ms: int
    n_rows: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, and where the player's data went."""

    pseudonym: str
    key: Literal["destroyed", "none", "gone", "held", "unknown"]
    """`destroyed` just now, or there was `none` and none will be made; `gone` since an earlier
    erasure; in a dry run `held`, or `unknown` to the store."""
    dry_run: bool
    windows: list[WindowUse]
    backtests: list[WindowUse]
    """Windows that backtests wrote."""
    versions: list[VersionUse] | None
    """None: the broker could not be asked."""
    seconds: float

    @property
    def n_rows(self) -> int:
        """Rows in windows of the archive."""
        return sum(window.n_rows for window in self.windows)


class UnknownPlayer(PrivacyError):
    """Nothing is known of the player, so that the name is most likely misspelt."""


def windows_of(folder: Path, pseudonym: str, pattern: str = "*/*/*/*.parquet") -> list[WindowUse]:
    """The windows below a folder that hold rows about a player.

    Reads a handful of columns of each window, and of those only what can match.
    """
    root = folder.resolve()
    if not any(root.glob(pattern)):
        return []
    files = f"read_parquet({quoted(f'{root}/{pattern}')}, union_by_name = true, filename = true)"
    with duckdb.connect(":memory:") as db:
        held = {str(row[0]) for row in db.execute(f"DESCRIBE SELECT * FROM {files}").fetchall()}
        about = " OR ".join(f"{c} = $1" for c in PLAYER_COLUMNS if c in held)
        rows = db.execute(
            f"SELECT substr(filename, {len(str(root)) + 2}), any_value(game), "
            f"any_value(archetype), list([origin_partition, origin_offset] "
            f"ORDER BY origin_partition, origin_offset, origin_index) "
            f"FROM {files} WHERE {about} GROUP BY filename ORDER BY 1",
            [pseudonym],
        ).fetchall()
    return [
        WindowUse(
            window=name.removesuffix(".parquet"),
            game=game,
            archetype=archetype,
            n_rows=len(places),
            places=[(partition, offset) for partition, offset in places],
        )
        for name, game, archetype, places in rows
    ]


def versions_using(
    registered: Sequence[Registered], windows: Sequence[WindowUse]
) -> list[VersionUse]:
    """The versions whose range of the log holds rows of these windows, in the order of time."""
    places: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for window in windows:
        places.setdefault((window.game, window.archetype), []).extend(window.places)
    found = []
    for event in registered:
        spans = {int(p): span for p, span in event.source_offsets.items()}
        n_rows = sum(
            spans[partition][0] <= offset <= spans[partition][1]
            for partition, offset in places.get((event.game, event.archetype), ())
            if partition in spans
        )
        if n_rows:
            use = VersionUse(
                model=event.model, version=event.version, time_ms=event.time_ms, n_rows=n_rows
            )
            found.append(use)
    return sorted(found, key=lambda use: (use.time_ms, use.model, use.version))


async def read_registered(settings: Settings) -> list[Registered]:
    """Every version that was registered."""
    found = []
    async with Look(settings.kafka) as look:
        async for record in look.read_all(settings.topics.models):
            event = model_event(record.value)
            if isinstance(event, Registered):
                found.append(event)
    return found


class Erasure:
    """One player's erasure: look first, destroy then, report last."""

    def __init__(self, settings: Settings, store: KeyStore, player: str) -> None:
        """Find the player's data; nothing is changed.

        Raises:
            UnknownPlayer: there is neither a key nor a row.
        """
        self._began = time.monotonic()
        self._settings, self._store = settings, store
        privacy = settings.load_game().privacy
        self.pseudonym = store.pseudonymiser(None if privacy is None else privacy.player_prefix)(
            player
        )
        self.windows = windows_of(settings.windows_dir, self.pseudonym)
        self.backtests = windows_of(
            settings.backtests_dir, self.pseudonym, "*/*/windows/*/*/*/*.parquet"
        )
        self.state = store.state(self.pseudonym)
        if self.state == "unknown" and not self.windows and not self.backtests:
            msg = (
                f"PLAYER must be one with a key or with rows in a sealed window; {self.pseudonym} "
                f"has neither (nothing was done; check the id and GRINDSTONE_GAME)"
            )
            raise UnknownPlayer(msg)

    def destroy(self) -> None:
        """Destroy the key, durably, and note that in the audit file."""
        self._store.erase(self.pseudonym)
        audit(
            self._store.folder,
            action="erase",
            pseudonym=self.pseudonym,
            state_before=self.state,
            n_windows=len(self.windows),
            n_rows=sum(window.n_rows for window in self.windows),
        )

    def report(self, registered: Sequence[Registered] | None, dry_run: bool) -> Report:
        """What was done; `registered` is None where the broker could not be asked."""
        done: dict[str, Literal["destroyed", "none", "gone"]] = {
            "held": "destroyed",
            "unknown": "none",
            "erased": "gone",
        }
        return Report(
            pseudonym=self.pseudonym,
            key="gone" if self.state == "erased" else self.state if dry_run else done[self.state],
            dry_run=dry_run,
            windows=self.windows,
            backtests=self.backtests,
            versions=None if registered is None else versions_using(registered, self.windows),
            seconds=round(time.monotonic() - self._began, 3),
        )


def audit(folder: Path, **facts: object) -> None:
    """Append a line to the audit file, durably; pseudonyms are the only ids in it."""
    line = msgspec.json.encode({"time_ms": time.time_ns() // 1_000_000, **facts}) + b"\n"
    handle = os.open(folder / AUDIT_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line)
        os.fsync(handle)
    finally:
        os.close(handle)


def plain(report: Report) -> dict[str, Any]:
    """The report for scripts."""
    document: dict[str, Any] = msgspec.to_builtins(report)
    for window in (*document["windows"], *document["backtests"]):
        places = window.pop("places")
        window["offsets"] = {
            str(partition): [offset for p, offset in places if p == partition]
            for partition in sorted({p for p, _ in places})
        }
    return {**document, "n_rows": report.n_rows}


def render(report: Report) -> Iterator[str]:
    """The report for people, line by line."""
    said = {
        "destroyed": "its key is destroyed: its text is unreadable, here and in every copy",
        "none": "it had no key, so no sealed text; from now on it gets none",
        "gone": "its key was destroyed before",
        "held": "its key is held; a dry run changes nothing",
        "unknown": "it has no key, so no sealed text; a dry run changes nothing",
    }
    yield f"player {report.pseudonym}: {said[report.key]}"
    yield f"windows with rows about it: {len(report.windows):,} ({report.n_rows:,} rows)"
    yield from (f"  {w.window}  {w.n_rows:,} rows" for w in report.windows)
    if report.backtests:
        yield f"windows of backtests: {len(report.backtests):,}"
        yield from (f"  {w.window}  {w.n_rows:,} rows" for w in report.backtests)
    if report.versions is None:
        yield "model versions: the broker did not answer; run the command again for the list"
    else:
        yield f"model versions that could learn from it: {len(report.versions):,}"
        for use in report.versions:
            at = show_time(use.time_ms)
            yield f"  {use.model} {use.version}  {at}  {use.n_rows:,} rows in its range"
