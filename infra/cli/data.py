"""Commands that hand data on, or make the first: replay, sql, bootstrap."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from infra.cli.common import (
    ConfigOption,
    JsonOption,
    RevealOption,
    find_settings,
    guarded,
    print_json,
    read_settings,
)

if TYPE_CHECKING:
    from streams.reader import Span

FromOption = Annotated[
    str | None,
    typer.Option("--from", help="First event time: 2026-01-31, 2026-01-31T18:00Z, or UTC ms."),
]
ToOption = Annotated[str | None, typer.Option("--to", help="Event time to stop before.")]
_MANY = "May be given again."


class Form(StrEnum):
    """How replayed rows are written."""

    JSONL = "jsonl"
    PARQUET = "parquet"


@guarded
def replay(
    source: Annotated[
        str, typer.Argument(help="A topic's name without prefix, or `archive` for the windows.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A new file, .parquet or .jsonl. Default: stdout."),
    ] = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="By default what the file's name ends with.")
    ] = None,
    start: FromOption = None,
    end: ToOption = None,
    log_time: Annotated[
        bool, typer.Option("--log-time", help="--from and --to say when the log took a record.")
    ] = False,
    from_offsets: Annotated[
        list[str] | None, typer.Option("--from-offset", help=f"OFFSET or PARTITION:OFFSET. {_MANY}")
    ] = None,
    to_offsets: Annotated[
        list[str] | None, typer.Option("--to-offset", help=f"Offset to stop before. {_MANY}")
    ] = None,
    partitions: Annotated[
        list[int] | None, typer.Option("--partition", min=0, help=f"Only this one. {_MANY}")
    ] = None,
    games: Annotated[
        list[str] | None, typer.Option("--game", help=f"Only rows of this game. {_MANY}")
    ] = None,
    archetypes: Annotated[
        list[str] | None, typer.Option("--archetype", help=f"Only this archetype. {_MANY}")
    ] = None,
    actors: Annotated[
        list[str] | None, typer.Option("--actor", help=f"Only this actor id. {_MANY}")
    ] = None,
    domains: Annotated[
        list[str] | None, typer.Option("--domain", help=f"Only this domain. {_MANY}")
    ] = None,
    policies: Annotated[
        list[str] | None, typer.Option("--policy", help=f"Only this policy version. {_MANY}")
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help=f"Only this type, such as decision or outcome.v3. {_MANY}"),
    ] = None,
    archive: Annotated[
        str | None, typer.Option("--archive", help="Folder or URL of another archive.")
    ] = None,
    reveal: RevealOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Hand on the rows of a topic or of the archive: a range, filtered, in a fixed order.

    Prints a summary with the offsets that were read and a digest of the rows: the same rows give
    the same digest, whichever source they are read from. The summary goes to stderr where the rows
    go to stdout. A file that exists is never overwritten.
    """
    from infra.replay import Plan, render, run_replay
    from infra.times import parse_range
    from streams.replay import Selection

    from_ms, to_ms = parse_range(start, end)
    span = _span(partitions, from_offsets, to_offsets, (from_ms, to_ms) if log_time else None)
    selection = Selection(
        from_ms=None if log_time else from_ms,
        to_ms=None if log_time else to_ms,
        games=frozenset(games or ()),
        archetypes=frozenset(archetypes or ()),
        actors=frozenset(actors or ()),
        domains=frozenset(domains or ()),
        policies=frozenset(policies or ()),
        types=frozenset(types or ()),
    )
    plan = Plan(
        source=source,
        archive=archive,
        selection=selection,
        span=span,
        out=out,
        form=_form(out, form),
        reveal=reveal,
    )
    try:
        found = run_replay(find_settings(config), plan)
    except BrokenPipeError:  # `replay ... | head` closes early
        sys.stderr.close()
        return
    if out is not None and as_json:
        print_json(found)
    elif as_json:
        import msgspec

        sys.stderr.write(msgspec.json.encode(found).decode() + "\n")
    else:
        print(render(found), file=sys.stdout if out is not None else sys.stderr)


def _form(out: Path | None, form: Form | None) -> Literal["jsonl", "parquet"]:
    from schemas.errors import refuse, shown

    if form is None and out is not None:
        endings = {".parquet": Form.PARQUET, ".jsonl": Form.JSONL, ".ndjson": Form.JSONL}
        if out.suffix not in endings:
            rule = f"a file that ends in {', '.join(endings)}, or --format given"
            refuse("--out", rule, shown(str(out)))
        form = endings[out.suffix]
    if form is Form.PARQUET and out is None:
        refuse("--out", "a file with --format parquet", "nothing")
    return "parquet" if form is Form.PARQUET else "jsonl"


def _span(
    partitions: list[int] | None,
    from_offsets: list[str] | None,
    to_offsets: list[str] | None,
    log_times: tuple[int | None, int | None] | None,
) -> "Span":
    from schemas.errors import refuse
    from streams.reader import Span

    first = _offsets("--from-offset", from_offsets, partitions)
    end = _offsets("--to-offset", to_offsets, partitions)
    for partition, offset in end.items():
        if offset <= first.get(partition, -1):
            refuse(
                "--to-offset", f"after --from-offset {partition}:{first[partition]}", str(offset)
            )
    from_time, to_time = log_times or (None, None)
    return Span(
        partitions=partitions,
        from_offsets=first,
        to_offsets=end,
        from_time_ms=from_time,
        to_time_ms=to_time,
    )


def _offsets(option: str, given: list[str] | None, partitions: list[int] | None) -> dict[int, int]:
    from schemas.errors import refuse, shown

    found = {}
    for text in given or ():
        left, colon, right = text.partition(":")
        if not colon and partitions is not None and len(partitions) == 1:
            left, right = str(partitions[0]), left
        if not (left.isdigit() and right.isdigit()):
            rule = "PARTITION:OFFSET, or OFFSET with one --partition"
            refuse(option, rule, shown(text))
        found[int(left)] = int(right)
    return found


@guarded
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT. `-` reads it from stdin.")],
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print rows as CSV.")] = False,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="Rows that the table shows at most.")
    ] = 100,
    archive: Annotated[
        Path | None, typer.Option("--archive", help="Folder of another archive.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Ask the windows a question in SQL (DuckDB). Nothing can be written.

    Views: `experiences` (every row, revisions too), `decisions_latest` (newest revision of each
    decision), `windows` (one row a file), `facts` (one row a fact), and `rescored` (rows of
    backtests) where there are any.
    """
    from infra.sql import Lake, run_query, show_table, write_csv

    if as_json and as_csv:
        from schemas.errors import refuse

        refuse("--csv", "given without --json", "both")
    settings = read_settings(config)
    lake = Lake(archive or settings.windows_dir, settings.backtests_dir)
    text = sys.stdin.read() if query == "-" else query
    with run_query(lake, text) as result:
        try:
            if as_json:
                print_json(result.documents())
            elif as_csv:
                write_csv(result, sys.stdout)
            else:
                show_table(result, rows)
        except BrokenPipeError:
            sys.stderr.close()


class Beginning(StrEnum):
    """Where initial data come from."""

    SCRIPTED = "scripted"
    SYNTHETIC = "synthetic"
    HISTORY = "history"


@guarded
def bootstrap(
    source: Annotated[
        Beginning,
        typer.Argument(help="The game's own AI at play, made-up rollouts, or earlier decisions."),
    ],
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="Decisions of each archetype.")
    ] = 10_000,
    archetypes: Annotated[
        list[str] | None, typer.Option("--archetype", help=f"Only this archetype. {_MANY}")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option("--archive", help="Windows that history is taken from.")
    ] = None,
    database: Annotated[
        bool, typer.Option("--database", help="History is in the database of the settings.")
    ] = False,
    rate: Annotated[
        float, typer.Option("--rate", min=1, help="Decisions a second at most.")
    ] = 2_000.0,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Fixes random draws.")] = None,
    game: Annotated[
        str | None, typer.Option("--game", help="A game's name, or its description's path.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Write initial data for a new game or archetype to game-events.

    They are ordinary decisions and outcomes with the policy version `scripted`, `synthetic` or
    `history`, which the ordinary fold settles: the log stays the only truth.
    """
    import asyncio

    from infra.bootstrap.history import ArchiveHistory, DatabaseHistory, History
    from infra.bootstrap.run import bootstrap as begin
    from infra.progress import Progress
    from schemas.errors import refuse

    settings = find_settings(config, seed=seed, game=game)
    if database and archive is not None:
        refuse("--database", "given without --archive", "both")
    history: History | None = None
    if archive is not None:
        history = ArchiveHistory(archive, settings.load_game())
    elif database:
        history = DatabaseHistory(settings.timescale, settings.load_game())
    progress = Progress("writing", "decisions")
    work = begin(
        settings, source.value, samples, tuple(archetypes or ()), rate, history, progress.show
    )
    try:
        wrote = asyncio.run(work)
    finally:
        progress.close()
    if as_json:
        print_json(wrote)
        return
    for name, n in wrote.decisions.items():
        print(f"{name}: {n:,} decisions, policy version {wrote.source}")
    print(f"{wrote.events:,} events in {wrote.seconds:.1f} s, ids with {wrote.incarnation}")
