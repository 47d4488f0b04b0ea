"""`grindstone replay`: rows of a topic or of the archive, to a file or to stdout."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

import msgspec

from infra.decoding import Reveal, items
from infra.fresh import fresh_file
from infra.privacy import revealing
from infra.progress import Progress
from infra.settings import Settings
from infra.times import show_time
from schemas.errors import refuse, shown
from schemas.events import ActorEvent, Tick
from schemas.game import Game
from schemas.model_events import ModelEvent
from schemas.records import DeadLetter, Experience, Metric, Row, Window
from schemas.topics import Topics
from streams.reader import Decoder, Span
from streams.replay import (
    Count,
    JsonLines,
    ParquetRows,
    Selection,
    Sink,
    replay_archive,
    replay_topic,
    summary,
)

ARCHIVE = "archive"
Format = Literal["jsonl", "parquet"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is replayed to where."""

    source: str
    """A topic's name without prefix, or `archive`."""
    archive: str | None = None
    """URL of another archive than that of the settings."""
    selection: Selection
    span: Span = Span()
    out: Path | None = None
    """None: stdout."""
    form: Format = "jsonl"
    reveal: bool = False
    """Players' text in clear; the digest is that of the rows as they are stored."""


def topic_kinds(topics: Topics) -> dict[str, tuple[type[msgspec.Struct], ...]]:
    """What each topic holds."""
    return {
        topics.game_events: (*get_args(ActorEvent), Tick),
        topics.experiences: get_args(Row),
        topics.replay_windows: (Window,),
        topics.models: get_args(ModelEvent),
        topics.dead_letters: (DeadLetter,),
        topics.metrics: (Metric,),
    }


def check_plan(plan: Plan, settings: Settings) -> tuple[type[msgspec.Struct], ...]:
    """The kinds of rows that can come.

    Raises:
        SchemaError: there is no such source or type, or rows that Parquet cannot hold together.
    """
    topics = settings.topics
    known = topic_kinds(topics)
    name = f"{topics.prefix}{plan.source}"
    if plan.source != ARCHIVE and name not in known:
        names = [n.removeprefix(topics.prefix) for n in known]
        refuse("SOURCE", f"{ARCHIVE} or one of {', '.join(names)}", shown(plan.source))
    kinds = (Experience,) if plan.source == ARCHIVE else known[name]
    tags = [str(kind.__struct_config__.tag) for kind in kinds]
    for wanted in plan.selection.types:
        if all(wanted not in (tag, tag.partition(".")[0]) for tag in tags):
            refuse("--type", f"one of {', '.join(tags)}", shown(wanted))
    if plan.selection.types:
        wanted_types = plan.selection.types
        kinds = tuple(
            kind
            for kind, tag in zip(kinds, tags, strict=True)
            if tag in wanted_types or tag.partition(".")[0] in wanted_types
        )
    return kinds


def run_replay(settings: Settings, plan: Plan) -> dict[str, Any]:
    """Replays and returns the summary.

    Raises:
        SchemaError: the plan asks for what there is not, or its file is there already.
        ReadError: the topic cannot be read.
        ReplayError: rows do not fit the file.
    """
    plan = with_default_types(plan)
    kinds = check_plan(plan, settings)
    game = settings.load_game()
    began = time.monotonic()
    with revealing(settings, plan.reveal) as reveal, _output(plan) as stream:
        sink = _sink(plan.form, stream, kinds, {game.name: game})
        if reveal is not None:
            sink = _Revealed(sink, reveal)
        count = _replay(settings, plan, sink)
    found = {"source": plan.source, "out": None if plan.out is None else str(plan.out)}
    return {**found, **summary(count), "seconds": round(time.monotonic() - began, 2)}


def with_default_types(plan: Plan) -> Plan:
    """The plan with what is meant where no type was named: of experience, the rows alone."""
    if plan.source != "experiences" or plan.selection.types:
        return plan
    selection = msgspec.structs.replace(plan.selection, types=frozenset({"experience"}))
    return msgspec.structs.replace(plan, selection=selection)


def _replay(settings: Settings, plan: Plan, sink: Sink) -> Count:
    if plan.source == ARCHIVE:
        progress = Progress("replaying", "rows")
        url = plan.archive or str(settings.windows_dir.resolve())
        try:
            return replay_archive(url, plan.selection, plan.span, sink, progress.show)
        finally:
            progress.close()
    progress = Progress("replaying", "offsets")
    topic = f"{settings.topics.prefix}{plan.source}"
    decode = _decoder(settings.topics, topic)
    work = replay_topic(
        settings.kafka, topic, decode, plan.selection, plan.span, sink, progress.show
    )
    try:
        return asyncio.run(work)
    finally:
        progress.close()


def _decoder(topics: Topics, topic: str) -> Decoder[Any]:
    return lambda value: items(topics, topic, value)


class _Revealed:
    """A sink behind which text is in clear."""

    def __init__(self, sink: Sink, reveal: Reveal) -> None:
        self._sink, self._reveal = sink, reveal
        self.close = sink.close

    def write(self, place: tuple[int, int, int], row: Any) -> None:
        """Hand on the row with its text."""
        self._sink.write(place, self._reveal(row))


@contextmanager
def _output(plan: Plan) -> Iterator[IO[bytes]]:
    if plan.out is None:
        yield sys.stdout.buffer
    else:
        with fresh_file(plan.out) as stream:
            yield stream


def _sink(
    form: Format,
    stream: IO[bytes],
    kinds: Sequence[type[msgspec.Struct]],
    games: dict[str, Game],
) -> Sink:
    if form == "jsonl":
        return JsonLines(stream)
    return ParquetRows(stream, kinds, games)


def render(found: dict[str, Any]) -> str:
    """The summary for people."""
    types = ", ".join(f"{tag} {n:,}" for tag, n in found["types"].items())
    lines = [f"rows {found['rows']:,} of {found['read']:,} read" + (f": {types}" if types else "")]
    if found["bad"]:
        lines.append(f"passed over {found['bad']:,} that are no events (see dead-letters)")
    if found["first_time_ms"] is not None:
        first, last = (show_time(cast("int", found[f"{end}_time_ms"])) for end in ("first", "last"))
        lines.append(f"from {first} to {last}")
    if found["offsets"]:
        parts = (f"{p}:{begin}-{end}" for p, (begin, end) in found["offsets"].items())
        lines.append(f"offsets {' '.join(parts)}")
    lines.append(f"digest {found['digest']}  ({found['seconds']:.1f} s)")
    if found["out"]:
        lines.append(f"written to {found['out']}")
    return "\n".join(lines)
