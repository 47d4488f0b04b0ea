"""What must hold when the torture is over: everything as if nothing had happened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from agents.rewards.agent import MakeRewardsFold
from schemas.arrow import rows_digest
from schemas.records import Experience, Row, WindowRule, decode_dead_letter, decode_rows
from streams.archive import read_archive
from streams.archiver.windows import WindowFold
from streams.engine import OFFSET_KEY, Record
from streams.reader import Span, read_records
from streams.verify import VerifyReport, VerifySettings, verify
from tests.torture.database import Database
from tests.torture.roles import Place
from tests.torture.script import JUNK, Said, Script, torture_game
from tests.torture.watch import Seen


class Verdict(msgspec.Struct, kw_only=True):
    """What was found. `problems` is empty when all of it is as it must be."""

    decisions: int = 0
    """Good decisions that the games took."""
    said: Said = msgspec.field(default_factory=Said)
    events: int = 0
    experiences: int = 0
    revised: int = 0
    dead_letters: int = 0
    again: int = 0
    """Records that the log holds a second time: sent again on purpose, or after a kill."""
    windows: int = 0
    announcements: int = 0
    changelog_records: int = 0
    """Seen by the witness as they were written."""
    changelog_kept: int = 0
    """Left after compaction."""
    database_rows: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    steps_back: int = 0
    """Changelog: offsets that did not rise, counts that fell."""
    digest: str = ""
    """Of all experiences; equal to that of the undisturbed fold when there are no problems."""
    problems: list[str] = []


class Undisturbed(msgspec.Struct):
    """What a partition's log comes to when it is folded in one process that nobody disturbs."""

    digest: str
    windows: dict[str, str]
    """Digest of each window's rows, by window."""
    states: dict[bytes, bytes]
    n_letters: int
    n_again: int


async def prove(place: Place, seen: Seen, database: Database | None) -> Verdict:
    """Compare what the tortured system left with what follows from its input."""
    verdict = Verdict(
        revised=seen.revised,
        changelog_records=seen.changelog_records,
        steps_back=seen.offsets_back + seen.ledgers_back,
    )
    problems = verdict.problems = []
    if not seen.clean:
        problems.append(f"the witness saw something go back: {seen}")
    good, said = _expected(place)
    verdict.decisions, verdict.said = len(good), said
    whole = hashlib.blake2b(digest_size=16)
    archived = _archive_digests(place)
    in_database = database.digests() if database is not None else {}
    settled: set[str] = set()
    windows: dict[str, str] = {}
    letters = 0
    for partition in range(place.play.partitions):
        calm = await _fold_undisturbed(place, partition)
        letters += calm.n_letters
        verdict.again += calm.n_again
        found = await _experiences(place, partition)
        verdict.experiences += len(found)
        digest = rows_digest(found)
        whole.update(digest.encode())
        firsts = [row.decision_id for row in found if row.revision == 0]
        verdict.doubled += len(firsts) - len(set(firsts))
        settled.update(firsts)
        windows |= calm.windows
        _compare(problems, f"experiences of partition {partition}", digest, calm.digest)
        _compare(problems, f"archive of partition {partition}", archived.get(partition), digest)
        if database is not None:
            at = f"database's rows of partition {partition}"
            _compare(problems, at, in_database.get(partition), archived.get(partition))
        verdict.changelog_kept += await _compare_states(place, partition, calm.states, problems)
    verdict.lost = len(good - settled)
    if settled - good:
        problems.append(f"{len(settled - good)} settled decisions were never taken")
    if verdict.lost:
        problems.append(f"{verdict.lost} decisions are lost, e.g. {sorted(good - settled)[:3]}")
    if verdict.doubled:
        problems.append(f"{verdict.doubled} decisions are settled twice")
    verdict.digest = whole.hexdigest()
    verdict.database_rows = database.count() if database is not None else 0
    await _compare_windows(place, windows, problems)
    await _compare_letters(place, letters, verdict)
    return verdict


def verify_files(place: Place, verdict: Verdict) -> None:
    """Run the product's own proof over log, experiences, windows and files; not in a loop."""
    report: VerifyReport = verify(
        place.kafka,
        place.topics,
        MakeRewardsFold({"torture": torture_game()}, place.topics),
        VerifySettings(archive_url=place.archive, processes=1),
    )
    verdict.events = report.total("events")
    verdict.windows = report.total("windows")
    verdict.announcements = report.announcements
    verdict.lost += report.total("lost")
    verdict.doubled += report.total("doubled")
    verdict.changed += report.total("changed") + report.total("extra")
    verdict.problems += [f"{c.kind} {c.where}: {c.what}" for c in report.culprits]
    for name in ("open", "unarchived"):
        if report.total(name):
            verdict.problems.append(f"nothing may be {name}; got {report.total(name)}")


def _expected(place: Place) -> tuple[set[str], Said]:
    good: set[str] = set()
    total = Said()
    for game in range(place.play.games):
        ids, said = Script(place.play, game).decision_ids(place.next_round(game))
        good |= ids
        for name in Said.__struct_fields__:
            setattr(total, name, getattr(total, name) + getattr(said, name))
    return good, total


async def _fold_undisturbed(place: Place, partition: int) -> Undisturbed:
    table: dict[bytes, bytes] = {}
    fold = MakeRewardsFold({"torture": torture_game()}, place.topics)(partition, table)
    size = torture_game().windows
    rule = WindowRule(max_rows=size.max_rows, max_span_ms=size.max_span_ms)
    cut: WindowFold[Experience] = WindowFold(partition, lambda first: rule)
    rows: list[Experience] = []
    windows: dict[str, str] = {}
    n_letters = n_again = 0
    values: set[bytes] = set()
    span = Span(partitions=[partition])
    async for batch in read_records(place.kafka, place.topics.game_events, span, 500_000):
        for record in batch:
            n_again += record.value in values
            if record.value not in JUNK:
                values.add(record.value)
        effects = fold.fold(
            [Record(partition, r.offset, r.timestamp, r.key, r.value) for r in batch]
        )
        _apply(table, effects.states)
        for output in effects.outputs:
            if output.topic != place.topics.experiences or output.value is None:
                n_letters += output.topic == place.topics.dead_letters
                continue
            made: list[Row] = decode_rows(output.value)
            rows += [row for row in made if isinstance(row, Experience)]
            for sealed in cut.take(0, made):
                windows[sealed.window_id] = rows_digest(sealed.rows)
    return Undisturbed(rows_digest(rows), windows, table, n_letters, n_again)


async def _experiences(place: Place, partition: int) -> list[Experience]:
    rows: list[Experience] = []
    span = Span(partitions=[partition])
    async for batch in read_records(place.kafka, place.topics.experiences, span):
        for record in batch:
            rows += [row for row in decode_rows(record.value) if isinstance(row, Experience)]
    return rows


async def _compare_states(
    place: Place, partition: int, calm: dict[bytes, bytes], problems: list[str]
) -> int:
    """Compare the changelog's last word on each key with the undisturbed table."""
    states: dict[bytes, bytes] = {}
    kept = 0
    span = Span(partitions=[partition])
    async for batch in read_records(place.kafka, place.topics.changelog("rewards"), span):
        kept += len(batch)
        _apply(states, {r.key: r.value for r in batch})
    states.pop(OFFSET_KEY, None)
    wrong = {k for k in states.keys() | calm.keys() if states.get(k) != calm.get(k)}
    if wrong:
        some = sorted(wrong)[:3]
        problems.append(f"{len(wrong)} states of partition {partition} differ, e.g. {some}")
    return kept


async def _compare_windows(place: Place, calm: dict[str, str], problems: list[str]) -> None:
    from schemas.records import decode_window

    announced: dict[str, str] = {}
    async for batch in read_records(place.kafka, place.topics.replay_windows):
        for record in batch:
            window = decode_window(record.value)
            before = announced.setdefault(window.window_id, window.digest)
            _compare(problems, f"announcements of {window.window_id}", window.digest, before)
    for name in sorted(calm.keys() | announced.keys()):
        _compare(problems, f"window {name}", announced.get(name), calm.get(name))


async def _compare_letters(place: Place, calm: int, verdict: Verdict) -> None:
    async for batch in read_records(place.kafka, place.topics.dead_letters):
        for record in batch:
            decode_dead_letter(record.value)
            verdict.dead_letters += 1
    if verdict.dead_letters != calm:
        verdict.problems.append(f"dead letters must be {calm}; got {verdict.dead_letters}")


def _archive_digests(place: Place) -> dict[int, str]:
    """Return the digest of each partition's archived rows, in the order of their origins."""
    rows: dict[int, list[Experience]] = {}
    for row in read_archive(place.archive):
        rows.setdefault(row.origin.partition, []).append(row)
    return {p: rows_digest(sorted(some, key=lambda r: r.origin)) for p, some in rows.items()}


def _apply(table: dict[bytes, bytes], changes: Mapping[Any, bytes | None]) -> None:
    for key, value in changes.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def _compare(problems: list[str], what: str, got: str | None, wanted: str | None) -> None:
    if got != wanted:
        problems.append(f"{what} must have digest {wanted}; got {got}")
