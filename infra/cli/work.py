"""Commands that do the work: demo, up, down, run."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    configure_logs,
    fail,
    find_settings,
    guarded,
    read_settings,
)


class Process(StrEnum):
    """What `grindstone run` starts."""

    REWARDS = "rewards"
    ARCHIVER = "archiver"
    SINK = "sink"
    LEARNER = "learner"
    EVALUATOR = "evaluator"
    RELEASE = "release"
    GAME = "game"
    TICKER = "ticker"


class Store(StrEnum):
    """Where experience is stored."""

    PARQUET = "parquet"
    TIMESCALE = "timescale"


SinkOption = Annotated[
    Store | None,
    typer.Option("--sink", help="parquet windows, or timescale: those and a database besides."),
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Fixes every random draw.")]
GameOption = Annotated[
    str | None, typer.Option("--game", help="A game's name, or its description's path.")
]


@guarded
def demo(
    seed: SeedOption = None,
    seconds: Annotated[
        float, typer.Option(min=20, help="How long it may take at most, the verdict included.")
    ] = 290.0,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="Kill a process every 20 s, and the broker once.")
    ] = False,
    game: GameOption = None,
    sink: SinkOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the picture and the CSV file go.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """From nothing to a pack that learns live, with a verdict on fresh matches.

    Starts a broker and every process, shows what happens, and exits 0 only when the learned
    policy beats the scripted pack (lower 95 % bound of at least 0.70) and no decision was lost
    or doubled.
    """
    from infra.demo.runner import DemoPlan, run_demo

    settings = read_settings(config, seed=seed, game=game, sink=sink and sink.value)
    settings.load_game()
    plan = DemoPlan(seconds=seconds, chaos=chaos, out=out, as_json=as_json)
    raise typer.Exit(asyncio.run(run_demo(settings, plan)))


@guarded
def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Go on in the background.")
    ] = False,
    broker: Annotated[
        bool, typer.Option(help="Start a local broker, or use the one of the settings.")
    ] = True,
    timescale: Annotated[
        bool,
        typer.Option("--timescale", help="Start a local database, and store every row in it too."),
    ] = False,
    sink: SinkOption = None,
    game: GameOption = None,
    seed: SeedOption = None,
    config: ConfigOption = None,
) -> None:
    """Start every process and keep them alive until Ctrl-C, or `grindstone down`."""
    from infra.up import detach_up, run_up

    settings = read_settings(config, seed=seed, game=game, sink=sink and sink.value)
    settings.load_game()
    if detach:
        raise typer.Exit(detach_up(settings, broker, timescale))
    configure_logs("up", settings.log_level)
    raise typer.Exit(asyncio.run(run_up(settings, broker, timescale)))


@guarded
def down(config: ConfigOption = None) -> None:
    """Stop what `up` started, the local broker and database too; their data stay."""
    from infra.up import take_down

    raise typer.Exit(take_down(read_settings(config)))


@guarded
def run(
    process: Annotated[Process, typer.Argument(help="The process to run.")],
    game: GameOption = None,
    seed: SeedOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda (learner).")] = None,
    config: ConfigOption = None,
) -> None:
    """Run one process in the foreground, as a supervisor or a container does."""
    from infra import processes

    settings = find_settings(config, seed=seed, game=game, device=device)
    code = processes.run(process.value, settings)
    if code == Exit.NO_BROKER:
        fail("the broker cannot be reached", Exit.NO_BROKER)
    raise typer.Exit(code)
