"""A backtest from question to folder: written aside, then there all at once, never over one."""

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from infra.backtest.question import (
    BEFORE,
    Before,
    Question,
    Source,
    Variant,
    needs_log,
)
from infra.backtest.refold import LogJob, Part, Told, refold
from infra.backtest.rescore import ArchiveJob, rescore
from infra.settings import Settings
from infra.times import show_time
from schemas.game import Game
from streams.archiver.store import ArchiveStore
from streams.pool import run_each
from streams.reader import ReadError, topic_spans
from streams.replay import RowSetDigest

MANIFEST = "manifest.json"
REPORT_JSON = "report.json"
REPORT_PAGE = "report.html"
_PARTITION = re.compile(r"/p(\d+)/(\d+)\.(\d+)\.parquet$")
OnTold = Callable[[Told], None]


class BacktestError(RuntimeError):
    """A question that what is there cannot answer."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One variant's windows."""

    name: str
    digest: str
    """Of its rows, in any order (`streams.replay.RowSetDigest`)."""
    n_rows: int
    n_windows: int
    n_open: int
    n_dead: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backtest's folder holds and what it was made from."""

    v: int = 1
    backtest_id: str
    digest: str
    """Of all variants' digests: the same question gives the same."""
    question: dict[str, Any]
    scored: list[Scored]
    files: dict[str, str]
    """SHA-256 by path below the folder."""


def put_question(
    settings: Settings,
    game: Game,
    variants: Sequence[Variant],
    times: tuple[int | None, int | None],
    source: Source = "auto",
    before: Before = "auto",
) -> Question:
    """The question with what there is to answer it from.

    Raises:
        BacktestError: the log is not there from its beginning and the archive cannot answer, or
            there is no archive.
        ReadError: no broker answers although the log was asked for.
    """
    folder = str(settings.windows_dir.resolve())
    windows = _archived(folder, game.name)
    why_log = next((w for v in variants if (w := needs_log(game, v.game))), None)
    spans: Mapping[int, tuple[int, int]] = {}
    if source != "archive":
        spans = _log_spans(settings, fall_back=source == "auto" and why_log is None)
    if not spans and why_log is not None:
        msg = (
            f"--source must be log for another {why_log}, which the facts in an archive do not "
            f"tell; got archive"
        )
        raise BacktestError(msg)
    if not spans and not windows:
        msg = f"windows must lie below {folder}/{game.name}; there are none"
        raise BacktestError(msg)
    if before == "auto":
        before = "recorded" if windows else "refolded"
    if before == "refolded" and not spans:
        before = "recorded"  # without the log, what was recorded is all that is known of before
    read = "" if spans else _digest_of(folder, windows)
    return Question(
        game=game,
        variants=list(variants),
        from_ms=times[0],
        to_ms=times[1],
        source="log" if spans else "archive",
        before=before,
        topic=settings.topics.game_events,
        spans=spans or {p: (len(paths), 0) for p, paths in windows.items()},
        read=read,
    )


def answer(
    settings: Settings,
    question: Question,
    processes: int | None,
    on_told: OnTold | None,
    report: Callable[[Path, Question, list[Scored]], None],
    again: bool = False,
) -> tuple[Manifest, Path]:
    """The answer's manifest and folder; `report` writes beside the windows what it finds.

    With `again`, the answer is worked out a second time and compared with the one that is there.

    Raises:
        BacktestError: nothing can be scored, or `again` gave another digest.
    """
    final = settings.backtests_dir / question.backtest_id
    known = load_manifest(final)
    if known is not None and not again:
        return known, final
    aside = _fresh_folder(settings.backtests_dir, question.backtest_id)
    try:
        parts = run_each(*_work(settings, question, aside), processes, on_told)
        scored = [_scored(name, [part[name] for part in parts]) for name in parts[0]]
        _check_scored(question, scored)
        digest = _digest(scored)
        if known is not None:
            if known.digest != digest:
                msg = f"{final} must have digest {digest}, as found again; it has {known.digest}"
                raise BacktestError(msg)
            return known, final
        report(aside, question, scored)
        manifest = _manifest(question, digest, scored, aside)
        data = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"))
        (aside / MANIFEST).write_bytes(data)
        aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest, final


def load_manifest(folder: Path) -> Manifest | None:
    """The manifest of an answered question; None where it is not answered yet."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(data, type=Manifest)


def _fresh_folder(root: Path, backtest_id: str) -> Path:
    """A folder to work in; what killed runs have left of this question goes away."""
    for left in root.glob(f".{backtest_id}.*"):
        if not Path("/proc", left.suffix[1:]).exists():
            shutil.rmtree(left, ignore_errors=True)
    found = root / f".{backtest_id}.{os.getpid()}"
    found.mkdir(parents=True)
    return found


def _work(
    settings: Settings, question: Question, folder: Path
) -> tuple[Sequence[Any], Callable[..., dict[str, Part]]]:
    games = {variant.name: variant.game for variant in question.variants}
    if question.before == "refolded":
        games[BEFORE] = question.game
    if question.source == "archive":
        url = str(settings.windows_dir.resolve())
        paths = _archived(url, question.game.name)
        return [
            ArchiveJob(
                url=url,
                partition=partition,
                paths=paths[partition],
                games=games,
                from_ms=question.from_ms,
                to_ms=question.to_ms,
                folder=str(folder),
            )
            for partition in sorted(paths)
        ], rescore
    return [
        LogJob(
            kafka=settings.kafka,
            topics=settings.topics,
            partition=partition,
            begin=begin,
            end=end,
            games=games,
            from_ms=question.from_ms,
            to_ms=question.to_ms,
            folder=str(folder),
        )
        for partition, (begin, end) in sorted(question.spans.items())
    ], refold


def _log_spans(settings: Settings, fall_back: bool) -> dict[int, tuple[int, int]]:
    """Offsets of the whole log by partition; nothing where it is not whole and need not be."""
    topic = settings.topics.game_events
    try:
        spans = asyncio.run(topic_spans(settings.kafka, topic))
    except ReadError:
        if fall_back:
            return {}
        raise
    for partition, span in spans.items():
        if span.log_begin > 0:
            if fall_back:
                return {}
            msg = (
                f"{topic} partition {partition} must begin at offset 0 to be folded again; it "
                f"begins at {span.log_begin} (another reward or weight alone can be scored from "
                f"the archive: --source archive)"
            )
            raise BacktestError(msg)
    if not any(span.end for span in spans.values()):
        if fall_back:
            return {}
        msg = f"{topic} must hold events; it is empty"
        raise BacktestError(msg)
    return {partition: (span.begin, span.end) for partition, span in spans.items()}


def _archived(url: str, game: str) -> dict[int, list[str]]:
    """Paths of a game's windows by partition: by archetype, in order."""
    found: dict[int, list[tuple[str, int, int]]] = {}
    for name in ArchiveStore.open(url).names(game, ".parquet"):
        match = _PARTITION.search(name)
        if match:
            key = (name[: match.start()], int(match[2]), int(match[3]))
            found.setdefault(int(match[1]), []).append(key)
    return {
        partition: [
            f"{key}/p{partition}/{offset}.{index}.parquet" for key, offset, index in sorted(of)
        ]
        for partition, of in found.items()
    }


def _digest_of(url: str, windows: Mapping[int, Sequence[str]]) -> str:
    """A digest of an archive's files: names and sizes, for a window's content never changes."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for paths in windows.values() for path in paths):
        digest.update(f"{path} {Path(url, path).stat().st_size}\n".encode())
    return digest.hexdigest()


def _scored(name: str, parts: Sequence[Part]) -> Scored:
    digest = RowSetDigest()
    for part in parts:
        digest.merge(part.digest, part.n_rows)
    return Scored(
        name=name,
        digest=digest.hexdigest(),
        n_rows=digest.n_rows,
        n_windows=sum(part.n_windows for part in parts),
        n_open=sum(part.n_open for part in parts),
        n_dead=sum(part.n_dead for part in parts),
    )


def _check_scored(question: Question, scored: Sequence[Scored]) -> None:
    for variant in scored:
        if variant.n_rows == 0:
            when = "".join(
                f" {word} {show_time(ms)}"
                for word, ms in (("from", question.from_ms), ("to", question.to_ms))
                if ms is not None
            )
            msg = (
                f"variant {variant.name} must settle decisions{when or ' of the log'}; it settles "
                f"none ({variant.n_open:,} are open where the log ends: a horizon that reaches "
                f"beyond it cannot be scored)"
            )
            raise BacktestError(msg)


def _digest(scored: Sequence[Scored]) -> str:
    lines = sorted(f"{v.name} {v.n_rows} {v.digest}\n" for v in scored if v.name != BEFORE)
    return hashlib.blake2b("".join(lines).encode(), digest_size=16).hexdigest()


def _manifest(question: Question, digest: str, scored: list[Scored], folder: Path) -> Manifest:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return Manifest(
        backtest_id=question.backtest_id,
        digest=digest,
        question=msgspec.json.decode(msgspec.json.encode(question)),
        scored=scored,
        files={
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
        },
    )
