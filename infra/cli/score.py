"""Commands that score history: backtest."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.common import ConfigOption, JsonOption, find_settings, guarded, print_json
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
    rewards: Annotated[
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
        rewards=tuple(rewards or ()),
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

    def show(told: "Told") -> None:
        parts[told.partition] = told
        progress.show(sum(p.done for p in parts.values()), sum(p.total for p in parts.values()))

    try:
        answered = ask(settings, asked, show)
    finally:
        progress.close()
    if not answered.new:
        done = "worked out again: the digest is the same" if again else "answered before"
        print(done, file=sys.stderr)
    if as_json:
        print_json(answered.document())
    else:
        print(render_text(answered.report, str(answered.folder), answered.manifest.digest))
