"""Commands that train the model types: learn train."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from infra.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    guarded,
    print_json,
    read_settings,
    show,
)

if TYPE_CHECKING:
    from infra.learn.asked import Asked
    from infra.learn.train import Work
    from infra.settings import Settings

learn = typer.Typer(
    name="learn",
    help="Train, evaluate and export models: nine types for each of six archetypes.",
    no_args_is_help=True,
)


@learn.callback()
def _learn() -> None:
    """Train, evaluate and export models: nine types for each of six archetypes."""


class PresetName(StrEnum):
    """Settings by name."""

    CLASSIC = "classic"
    MODERN = "modern"


class DeviceName(StrEnum):
    """What to train on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Half(StrEnum):
    """Whether passes are taken in bfloat16."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class RowsSource(StrEnum):
    """Where rows to learn from come from."""

    SCRIPTED = "scripted"
    WINDOWS = "windows"


ArchetypesOption = Annotated[
    list[str] | None,
    typer.Option("--archetype", "-a", help="Only this archetype. May be given again."),
]
TypesOption = Annotated[
    list[str] | None, typer.Option("--type", "-t", help="Only this type. May be given again.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Fixes every random draw.")]
DeviceOption = Annotated[DeviceName, typer.Option("--device", help="auto: CUDA where it is.")]
ReportOption = Annotated[
    Path | None, typer.Option("--report", help="A new file: a page (.html), .json or .md.")
]
SamplesOption = Annotated[int, typer.Option("--samples", help="Rows an archetype to begin with.")]


def check_report(path: Path) -> None:
    """Refuse a report's path before the work is done."""
    from infra.fresh import check_fresh
    from schemas.errors import refuse, shown

    if path.suffix not in (".html", ".json", ".md"):
        refuse("--report", "a file that ends in .html, .json or .md", shown(str(path)))
    check_fresh(path, "--report")


def say(text: str) -> None:
    """Tell on stderr how far something is."""
    print(text, file=sys.stderr, flush=True)


def train_and_tell(
    settings: "Settings", asked: "Asked", work: "Work",
    report: Path | None, as_json: bool, warm: dict[str, Any] | None = None,
) -> NoReturn:  # fmt: skip
    """Train with progress, keep and show the report, and end with whether all was made."""
    from infra.learn.bars import Bars
    from infra.learn.report import keep_report, render_text, summary, write_report
    from infra.learn.train import train as run

    with Bars(n=len(asked.types)) as bars:
        found = run(
            settings, asked, work, bars.tell, lambda a: bars.say(f"{a}: rows recorded"), warm
        )
    page = keep_report(found, Path(settings.data_dir) / "learn" / "reports")
    if report is not None:
        write_report(found, report)
    if as_json:
        print_json(found)
    else:
        show(render_text(found))
        print(summary(found), f"report: {page}", sep="\n", file=sys.stderr)
    raise typer.Exit(int(Exit.OK if found.complete else Exit.FAILED))


@learn.command()
@guarded
def train(
    every: Annotated[bool, typer.Option("--all", help="Every type for every archetype.")] = False,
    archetypes: ArchetypesOption = None,
    types: TypesOption = None,
    preset: Annotated[
        PresetName, typer.Option(help="classic: the usual numbers; modern: what measured better.")
    ] = PresetName.MODERN,
    epochs: Annotated[
        float | None, typer.Option(help="Times to go through the rows, in place of the updates.")
    ] = None,
    updates: Annotated[int | None, typer.Option(help="Gradient steps a type.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows of a gradient step.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's decay, e.g. 1e-4.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Batches whose gradients make one step.")
    ] = None,
    patience: Annotated[
        int, typer.Option(help="Judgements without a gain that stop a model; 0: none do.")
    ] = 20,
    curriculum: Annotated[
        bool, typer.Option(help="Practise on rising difficulty, by the matches won.")
    ] = True,
    device: DeviceOption = DeviceName.AUTO,
    amp: Annotated[
        Half, typer.Option(help="bfloat16; auto: where a trial shows it to be faster.")
    ] = Half.AUTO,
    parallel: Annotated[
        int | None, typer.Option(help="Types trained side by side. Default: one a core.")
    ] = None,
    memory_gb: Annotated[float, typer.Option(help="Most memory a training may take.")] = 11.0,
    samples: SamplesOption = 10_000,
    rows: Annotated[
        RowsSource, typer.Option("--rows", help="Scripted play, or the archive's newest windows.")
    ] = RowsSource.SCRIPTED,
    minutes: Annotated[
        float | None, typer.Option(help="Wall time after which the best so far is taken.")
    ] = None,
    matches: Annotated[
        int, typer.Option("--matches", help="Matches that judge a finished model that acts.")
    ] = 400,
    seed: SeedOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoints of the same training.")
    ] = False,
    report: ReportOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Train model types: the archetypes of one type as one stack, several types side by side.

    Rows to begin with are recorded from scripted play, or taken from what live play of the arena
    has archived. Every model is judged on what was held out,
    exported as a version below `models/` of the data, and told in a table with intervals. Scalars
    for TensorBoard lie in `learn/tensorboard`, the report in `learn/reports`. A type that fails
    ends no other; the exit code is then 1. What was interrupted or failed goes on with --resume
    and makes the same weights.
    """
    from infra.learn.asked import Asked, check_types
    from infra.learn.train import Work, names_of
    from learners.model_types.registry import names
    from schemas.errors import refuse

    if not (every or archetypes or types):
        refuse("learn train", "given --all, --archetype or --type", "none of them")
    settings = read_settings(config, seed=seed)
    if report is not None:
        check_report(report)
    asked = Asked(
        archetypes=names_of(archetypes), types=check_types(tuple(types or ()), names()),
        preset=preset.value, epochs=epochs, updates=updates, batch=batch, lr=lr,
        weight_decay=weight_decay, accumulate=accumulate, patience=patience,
        curriculum="levels" if curriculum else "none", device=device.value, amp=amp.value,
        parallel=parallel, memory_gb=memory_gb, samples=samples, minutes=minutes,
        source=rows.value, evaluate_matches=matches, seed=settings.seed,
    )  # fmt: skip
    train_and_tell(settings, asked, Work(resume=resume), report, as_json)
