"""Commands that look and change nothing: status, topics, tail, models."""

import asyncio
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    RevealOption,
    fail,
    find_settings,
    guarded,
    print_json,
)

if TYPE_CHECKING:
    from infra.decoding import Filter, Reveal
    from infra.settings import Settings


class Where(StrEnum):
    """Where `tail` begins."""

    EARLIEST = "earliest"
    LATEST = "latest"


@guarded
def status(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Processes, lag, the ledger of decisions, and the champion."""
    from infra.status import gather, render

    found = asyncio.run(gather(find_settings(config)))
    if as_json:
        print_json(found)
    else:
        _print(render(found))


@guarded
def topics(
    as_json: JsonOption = False,
    config: ConfigOption = None,
    make: Annotated[bool, typer.Option("--make", help="Make the topics that are absent.")] = False,
) -> None:
    """The topics: partitions, records, retention, what they hold."""
    from infra.status import describe_topics, render_topics

    found = asyncio.run(describe_topics(find_settings(config), make))
    if as_json:
        print_json(found)
    else:
        _print(render_topics(found))


@guarded
def tail(
    topic: Annotated[str, typer.Argument(help="Name without prefix, such as game-events.")],
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="field=value or field!=value; may be given again."),
    ] = None,
    start: Annotated[Where, typer.Option("--from", help="Where to begin.")] = Where.EARLIEST,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as records come.")] = False,
    limit: Annotated[int | None, typer.Option("-n", min=1, help="Stop after so many.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Vectors as base64, not as a size.")] = False,
    reveal: RevealOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """The events of a topic, decoded: a line each."""
    from infra.decoding import Filter
    from infra.privacy import revealing

    try:
        wanted = [Filter.parse(text) for text in filters or []]
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    settings = find_settings(config)
    try:
        with revealing(settings, reveal) as shown:
            asyncio.run(_tail(settings, topic, wanted, start, follow, limit, as_json, full, shown))
    except BrokenPipeError:  # `tail ... | head` closes early
        sys.stderr.close()


async def _tail(
    settings: "Settings",
    topic: str,
    filters: "list[Filter]",
    start: Where,
    follow: bool,
    limit: int | None,
    as_json: bool,
    full: bool,
    shown: "Reveal | None",
) -> None:
    from infra.decoding import decode, one_line, shorten
    from infra.reading import Look

    name = f"{settings.topics_prefix}{topic}"
    n = 0
    async with Look(settings.kafka) as look:
        ends = await look.ends(name)
        if not ends:
            fail(f"topic must be one of the broker's; got {name!r}", Exit.USAGE)
        begin = ends if start is Where.LATEST else await look.starts(name)
        async for record in look.read(name, begin, None if follow else ends):
            for plain in decode(settings.topics, name, record.value, shown):
                if not all(f.accepts(plain) for f in filters):
                    continue
                place = {"partition": record.partition, "offset": record.offset}
                if as_json:
                    print_json({**place, **(plain if full else shorten(plain))})
                else:
                    print(f"{record.partition}@{record.offset} {one_line(plain)}", flush=True)
                n += 1
                if limit is not None and n >= limit:
                    return


def _print(renderable: Any) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a pipe has no width: nothing is cut off
    console.print(renderable)
