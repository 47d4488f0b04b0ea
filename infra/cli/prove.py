"""Commands that prove: verify."""

import asyncio

import typer

from infra.cli.common import ConfigOption, Exit, JsonOption, guarded, print_json, read_settings


@guarded
def verify(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Read topics and archive afresh and prove that nothing is lost or doubled.

    Proves `decisions = settled + open + dead-lettered`, each experience once, and each window's
    digest equal to that of the rows refolded from the log. Exits 1 and names the first culprit
    if not.
    """
    from infra.proof import prove, render_proof

    settings = read_settings(config)
    found = asyncio.run(prove(settings))
    if as_json:
        print_json(found)
    else:
        print(render_proof(found))
    raise typer.Exit(int(Exit.OK if found["ok"] else Exit.FAILED))
