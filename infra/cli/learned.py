"""Commands for trained models: evaluate, export, transfer, coordinate, profile, continuous."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.common import (
    ConfigOption,
    Exit,
    JsonOption,
    fail,
    find_settings,
    guarded,
    print_json,
    read_settings,
    show,
)
from infra.cli.learn import (
    ArchetypesOption,
    DeviceName,
    DeviceOption,
    PresetName,
    ReportOption,
    SamplesOption,
    SeedOption,
    TypesOption,
    check_report,
    learn,
    say,
    train_and_tell,
)

if TYPE_CHECKING:
    from infra.settings import Settings


class FormName(StrEnum):
    """Weights of an exported graph."""

    FP16 = "fp16"
    FP32 = "fp32"
    INT8 = "int8"


ModelsArgument = Annotated[
    list[str] | None,
    typer.Argument(help="NAME or NAME@V; default: the newest of every model that was trained."),
]
UpdatesOption = Annotated[int | None, typer.Option(help="Gradient steps.")]
RateOption = Annotated[float | None, typer.Option("--lr", help="Learning rate.")]


def _folders(
    settings: "Settings", named: list[str] | None, types: list[str] | None,
    archetypes: list[str] | None,
) -> list[Path]:  # fmt: skip
    from infra.learn.asked import check_archetypes, check_types
    from infra.learn.judged import select
    from infra.learn.train import names_of
    from infra.learn.versions import find_version
    from learners.model_types.registry import names

    if named:
        return [find_version(settings.models_dir, name) for name in named]
    kinds = check_types(tuple(types or ()), names())
    return select(settings.models_dir, kinds, check_archetypes(names_of(archetypes)))


@learn.command()
@guarded
def evaluate(
    named: ModelsArgument = None,
    archetypes: ArchetypesOption = None,
    types: TypesOption = None,
    episodes: Annotated[int, typer.Option("--episodes", min=2, help="Matches a model.")] = 100,
    seed: SeedOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Judge trained models anew: matches against the traditional AI, or rows of new play.

    Matches are paired: every start is played from both sides. Exits 1 when a model is below its
    type's target.
    """
    from infra.learn.judged import evaluate as judge
    from infra.learn.judged import render_text, write_evaluation

    if report is not None:
        check_report(report)
    settings = read_settings(config, seed=seed)
    folders = _folders(settings, named, types, archetypes)
    found = judge(folders, episodes, settings.seed, lambda kind: say(f"{kind}: judged"))
    if report is not None:
        write_evaluation(found, report)
    if as_json:
        print_json(found)
    else:
        show(render_text(found))
    good = all(one.quality["good"] for one in found.judged)
    raise typer.Exit(int(Exit.OK if good else Exit.FAILED))


@learn.command()
@guarded
def export(
    named: ModelsArgument = None,
    archetypes: ArchetypesOption = None,
    types: TypesOption = None,
    form: Annotated[FormName, typer.Option("--form", help="Weights.")] = FormName.FP16,
    fp32: Annotated[bool, typer.Option("--fp32", help="The same as --form fp32.")] = False,
    fastest: Annotated[
        bool, typer.Option("--fastest", help="Measure all three forms and take the best.")
    ] = False,
    optimise: Annotated[
        bool, typer.Option("--optimise", help="Fold constants into the file.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare with torch on new play, and time.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Default: `exports` of the data.")
    ] = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Write trained models as ONNX: half precision weights unless asked otherwise.

    A form that does not agree with torch is refused. The versions themselves are never changed.
    """
    from infra.learn.exported import export as write
    from infra.learn.exported import render_text

    settings = read_settings(config, seed=seed)
    forms = [f.value for f in FormName] if fastest else ["fp32" if fp32 else form.value]
    found = write(
        _folders(settings, named, types, archetypes), forms,
        out or Path(settings.data_dir) / "exports", settings.seed, optimise=optimise, verify=verify,
    )  # fmt: skip
    if as_json:
        print_json(found)
    else:
        show(render_text(found))


@learn.command()
@guarded
def transfer(
    source: Annotated[str, typer.Option("--from", help="NAME or NAME@V to begin from.")],
    targets: Annotated[
        list[str], typer.Option("--to", help="Archetype to train. May be given again.")
    ],
    kind: Annotated[
        str | None, typer.Option("--type", help="Of the targets; default: the source's.")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Take only weights whose name begins so; default: all."),
    ] = None,
    frozen: Annotated[
        list[str] | None, typer.Option("--freeze", help="Leave these weights as they are.")
    ] = None,
    preset: PresetName = PresetName.MODERN,
    updates: UpdatesOption = None,
    lr: RateOption = None,
    samples: SamplesOption = 10_000,
    device: DeviceOption = DeviceName.AUTO,
    seed: SeedOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Train an archetype's model from another model's weights, all or some layers, fine-tuned."""
    from infra.learn.asked import check_archetypes
    from infra.learn.versions import find_version
    from learners.training.deliver import read_version

    settings = read_settings(config, seed=seed)
    info = read_version(find_version(settings.models_dir, source, "--from"))
    name = f"{info.model}@{info.version}"
    warm = {
        "versions": {target: name for target in check_archetypes(tuple(targets), "--to")},
        "layers": layers or [], "frozen": frozen or [],
    }  # fmt: skip
    options = {"preset": preset.value, "updates": updates, "lr": lr, "samples": samples}
    _train(settings, kind or info.type, tuple(targets), options | {"device": device.value},
           report, as_json, warm)  # fmt: skip


@learn.command()
@guarded
def coordinate(
    archetypes: ArchetypesOption = None,
    pack: Annotated[int, typer.Option("--pack", help="Actors of a pack.")] = 5,
    episodes: Annotated[
        int | None,
        typer.Option("--episodes", min=1, help="Matches to practise."),
    ] = None,
    preset: PresetName = PresetName.MODERN,
    lr: RateOption = None,
    samples: SamplesOption = 10_000,
    device: DeviceOption = DeviceName.AUTO,
    seed: SeedOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Train packs together: a central critic sees all five, each acts on what it sees itself."""
    from infra.learn.rows import make_layout
    from infra.learn.train import names_of
    from learners.model_types.registry import model_type
    from schemas.errors import refuse

    if pack != make_layout().pack:
        refuse("--pack", f"{make_layout().pack}, a pack of the arena", str(pack))
    settings = read_settings(config, seed=seed)
    own = model_type("team_coordination").preset(preset.value)
    updates = None
    if episodes is not None:
        calls = -(-episodes // max(1, own.practice_matches))
        updates = calls * own.practise_every + int(getattr(own, "clone_updates", 0))
    options = {"preset": preset.value, "updates": updates, "lr": lr, "samples": samples}
    _train(settings, "team_coordination", names_of(archetypes),
           options | {"device": device.value}, report, as_json)  # fmt: skip


def _train(
    settings: "Settings", kind: str, archetypes: tuple[str, ...], options: dict[str, Any],
    report: Path | None, as_json: bool, warm: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    from infra.learn.asked import Asked, check_types
    from infra.learn.train import Work
    from learners.model_types.registry import names

    if report is not None:
        check_report(report)
    asked = Asked(
        archetypes=archetypes, types=check_types((kind,), names()), seed=settings.seed, **options
    )
    train_and_tell(settings, asked, Work(), report, as_json, warm)


@learn.command()
@guarded
def profile(
    types: TypesOption = None,
    archetypes: ArchetypesOption = None,
    preset: PresetName = PresetName.MODERN,
    updates: Annotated[int, typer.Option(min=3, help="Steps that are timed.")] = 20,
    samples: SamplesOption = 10_000,
    device: DeviceOption = DeviceName.AUTO,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Tell where the time of a training goes, and how long a whole one would take."""
    from infra.learn.asked import Asked, check_types
    from infra.learn.profiled import profile as look
    from infra.learn.profiled import render_text
    from infra.learn.rows import ensure_rows, make_layout
    from infra.learn.train import make_plan, names_of
    from learners.model_types.base import wants_maps
    from learners.model_types.registry import names
    from learners.training.machine import device_name

    settings = read_settings(config, seed=seed)
    asked = Asked(
        archetypes=names_of(archetypes), types=check_types(tuple(types or ()), names()),
        preset=preset.value, samples=samples, seed=settings.seed,
    )  # fmt: skip
    found = []
    for name in asked.types:
        plan = make_plan(name, asked, device_name(device.value), {}, None)
        maps = wants_maps(plan.kind, make_layout())
        data = Path(settings.data_dir)
        rows = ensure_rows(
            data, asked.archetypes, samples, asked.seed, maps, lambda a: say(f"{a}: rows recorded")
        )
        found.append(look(plan, rows, updates, lambda phase, name=name: say(f"{name}: {phase}")))  # type: ignore[misc]
        if not as_json:
            print(render_text(found[-1]))
    if as_json:
        print_json(found)


@learn.command()
@guarded
def continuous(
    types: TypesOption = None,
    archetypes: ArchetypesOption = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="New decisions at which a model is retrained.")
    ] = 1_000,
    hours: Annotated[
        float, typer.Option("--hours", help="Event time after which fewer are enough.")
    ] = 1.0,
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="Newest decisions that are learned from.")
    ] = 20_000,
    updates: Annotated[int, typer.Option("--updates", min=1, help="Steps a retraining.")] = 300,
    method: Annotated[
        str | None,
        typer.Option("--method", help="on_policy, off_policy or offline; default: by data age."),
    ] = None,
    preset: PresetName = PresetName.MODERN,
    archive: Annotated[
        str | None, typer.Option("--archive", help="Folder or URL of another archive.")
    ] = None,
    device: DeviceOption = DeviceName.AUTO,
    game: Annotated[str, typer.Option("--game", help="Whose windows.")] = "arena",
    seed: SeedOption = None,
    config: ConfigOption = None,
) -> None:
    """Keep models training from the windows of the log, until Ctrl-C.

    A member of the group `learn-continuous` on `replay-windows`. Each model is retrained from its
    champion, and a version of it registered on `models`. A window that cannot be trusted is passed
    over and told in `metrics`. Killed at any moment, it goes on to the same weights.
    """
    from infra import processes
    from infra.learn.asked import check_types
    from infra.learn.live import check_rule, learner_config
    from infra.learn.train import names_of
    from learners.model_types.registry import names

    settings = find_settings(config, seed=seed, game=game)
    rule = check_rule(rows, hours, keep, updates, method, preset.value)
    chosen = check_types(tuple(types or ()), names())
    told = learner_config(settings, chosen, names_of(archetypes), rule, archive, device.value)
    if processes.run_trainer(settings, told) == Exit.NO_BROKER:
        fail("the broker cannot be reached", Exit.NO_BROKER)


commands = learn
"""All commands of `grindstone learn`."""
