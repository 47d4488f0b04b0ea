"""Commands that score history, or look at how it was scored: backtest, rewards."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    find_settings,
    guarded,
    print_json,
    read_settings,
    show,
)
from infra.cli.data import FromOption, ToOption

if TYPE_CHECKING:
    from infra.backtest.refold import Told

GameOption = Annotated[
    str | None, typer.Option("--game", help="A game's name, or its description's path.")
]


class From(StrEnum):
    """What history is scored from."""

    AUTO = "auto"
    LOG = "log"
    ARCHIVE = "archive"


class Beside(StrEnum):
    """What is compared with."""

    AUTO = "auto"
    RECORDED = "recorded"
    REFOLDED = "refolded"


@guarded
def backtest(
    changed_rewards: Annotated[
        list[str] | None,
        typer.Option("--reward", help="battle@2, or DOMAIN=battle@2. May be given again."),
    ] = None,
    horizons: Annotated[
        list[str] | None,
        typer.Option("--horizon", help="6h; 1h,6h,24h for several; DOMAIN=6h. May be given again."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weight", help="Long-term weight: 0.5, or DOMAIN=0.5. May be given again."),
    ] = None,
    game_file: Annotated[
        Path | None, typer.Option("--game-file", help="Another description of the game.")
    ] = None,
    start: FromOption = None,
    end: ToOption = None,
    source: Annotated[
        From, typer.Option("--source", help="The log if it is whole, else the windows' facts.")
    ] = From.AUTO,
    before: Annotated[
        Beside, typer.Option("--before", help="Recorded windows, or the log as described today.")
    ] = Beside.AUTO,
    again: Annotated[
        bool, typer.Option("--again", help="Work out an answer that is there, and compare.")
    ] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="One a core by default.")] = None,
    game: GameOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Score history again under another reward, horizon, weight or description.

    Folds the log of game-events again, a process a partition, and writes the windows that follow
    into a folder of their own, named by the question, below `backtests/` of the data: nothing that
    is there is written over. The folder has a manifest with digests, and a report as a page and as
    JSON: distributions before and after, rank correlation, what changed most, by archetype and
    domain. The same question gives the same digest.
    """
    from infra.backtest.ask import Asked, ask
    from infra.backtest.html import render_text
    from infra.progress import Progress
    from infra.times import parse_range

    settings = find_settings(config, game=game)
    asked = Asked(
        rewards=tuple(changed_rewards or ()),
        horizons=tuple(horizons or ()),
        weights=tuple(weights or ()),
        game_file=game_file,
        times=parse_range(start, end),
        source=source.value,
        before=before.value,
        again=again,
        processes=processes,
    )
    progress = Progress("folding again", "offsets")
    parts: dict[int, Told] = {}

    def on_told(told: "Told") -> None:
        parts[told.partition] = told
        progress.show(sum(p.done for p in parts.values()), sum(p.total for p in parts.values()))

    try:
        answered = ask(settings, asked, on_told)
    finally:
        progress.close()
    if not answered.new:
        done = "worked out again: the digest is the same" if again else "answered before"
        print(done, file=sys.stderr)
    if as_json:
        print_json(answered.document())
    else:
        print(render_text(answered.report, str(answered.folder), answered.manifest.digest))


rewards = typer.Typer(
    name="rewards",
    help="What the rewards of recorded decisions look like.",
    no_args_is_help=True,
)


@rewards.callback()
def _rewards() -> None:
    """What the rewards of recorded decisions look like."""


@rewards.command()
@guarded
def analyse(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A new file: a page (.html) or a .png.")
    ] = None,
    archetypes: Annotated[
        list[str] | None,
        typer.Option("--archetype", help="Only this archetype. May be given again."),
    ] = None,
    start: FromOption = None,
    end: ToOption = None,
    archive: Annotated[
        Path | None, typer.Option("--archive", help="Folder of another archive.")
    ] = None,
    game: GameOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Distribution, sparsity, NaN, infinities and outliers of every reward and of its parts.

    By archetype, domain and reward version, over the newest revision of each decision in the
    windows. Exits 1 when a reward is no finite number.
    """
    from infra.analysis import Wanted
    from infra.analysis import analyse as look
    from infra.analysis_page import draw, render_page, render_text
    from infra.fresh import check_fresh, fresh_file
    from infra.times import parse_range
    from schemas.errors import refuse, shown

    from_ms, to_ms = parse_range(start, end)
    if out is not None:
        if out.suffix not in (".html", ".png"):
            refuse("--out", "a file that ends in .html or .png", shown(str(out)))
        check_fresh(out)
    settings = read_settings(config, game=game)
    wanted = Wanted(archetypes=frozenset(archetypes or ()), from_ms=from_ms, to_ms=to_ms)
    found = look(settings, wanted, archive)
    if out is not None:
        with fresh_file(out) as stream:
            if out.suffix == ".png":
                draw(found, stream)
            else:
                stream.write(render_page(found, settings.load_game().name).encode())
    if as_json:
        print_json(found)
    else:
        show(render_text(found))
    raise typer.Exit(int(Exit.FAILED if found.problems else Exit.OK))
