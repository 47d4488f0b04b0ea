"""Commands about model versions: models, models rebuild, models diff."""

import asyncio
from typing import Annotated

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

models = typer.Typer(
    name="models", help="Model versions: their fate, how they came to be, what tells them apart."
)


@models.callback(invoke_without_command=True)
@guarded
def listed(
    context: typer.Context,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Show offsets, windows and settings of each version.")
    ] = False,
) -> None:
    """Every model version: its fate, the reasons, its matches, and where it comes from."""
    if context.invoked_subcommand is not None:
        return
    from infra.status import list_models, render_models

    found = asyncio.run(list_models(find_settings(config)))
    if as_json:
        print_json(found)
    else:
        show(render_models(found, lineage))


@models.command()
@guarded
def rebuild(
    name: Annotated[str, typer.Argument(help="NAME@V, or NAME for its newest version.")],
    archive: Annotated[
        str | None, typer.Option("--archive", help="Folder or URL of another archive of windows.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Train a version again from its manifest and compare the ONNX file, byte for byte.

    Rows, settings, seed and starting weights are those that the manifest names; a digest that
    differs ends it. Exits 1 when the bytes differ: another kind of CPU, library or code does that.
    """
    from pathlib import Path

    from infra.learn.again import rebuild as make
    from infra.learn.bars import Bars
    from infra.learn.job import Told

    settings = read_settings(config)
    root = archive or str(Path(settings.windows_dir).resolve())
    with Bars() as bars:
        found = make(
            settings.models_dir, Path(settings.data_dir), root, name,
            lambda done, total: bars.tell(Told(name, done, total)),
        )  # fmt: skip
    if as_json:
        print_json(found)
    else:
        says = "the same bytes" if found.same else f"other bytes: {found.wanted} was made first"
        print(f"{found.model}@{found.version}: {found.sha256}, {says}")
        if found.code_version != found.made_with:
            print(f"made with code {found.made_with}, now {found.code_version}")
    raise typer.Exit(int(Exit.OK if found.same else Exit.FAILED))


@models.command()
@guarded
def diff(
    one: Annotated[str, typer.Argument(help="NAME@V")],
    other: Annotated[str, typer.Argument(help="NAME@V")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the new observations.")] = 1,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Tell what differs between two versions in data, settings, making and behaviour."""
    from infra.learn.again import diff as compare
    from infra.learn.again import render_difference

    found = compare(read_settings(config).models_dir, one, other, seed)
    if as_json:
        print_json(found)
    else:
        print(render_difference(found))
