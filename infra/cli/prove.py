"""Commands that prove: verify."""

from typing import Annotated

import typer

from infra.cli.common import ConfigOption, Exit, JsonOption, find_settings, guarded, print_json


@guarded
def verify(
    as_json: JsonOption = False,
    live: Annotated[
        bool, typer.Option("--live", help="Allow what is not written yet: the system runs.")
    ] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="One a core by default.")] = None,
    config: ConfigOption = None,
) -> None:
    """Read topics and archive afresh and prove that nothing is lost or doubled.

    Proves `decisions = settled + open + dead-lettered`, each experience once, and each window's
    digest equal to that of the rows refolded from the log; with `sink = "timescale"` the same of
    the database's rows. Exits 1 and names the first culprit if not.
    """
    from infra.proof import plain, prove, render

    report = prove(find_settings(config), live, processes)
    if as_json:
        print_json(plain(report))
    else:
        print(render(report))
    raise typer.Exit(int(Exit.OK if report.ok else Exit.FAILED))
