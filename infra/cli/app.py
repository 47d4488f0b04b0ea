"""The command line: which commands there are. Each imports what it needs when it runs."""

import logging
from typing import Annotated

import typer

from infra.cli import data, learned, look, models, players, prove, score, work
from infra.cli.common import EXIT_CODES
from infra.code_version import code_version

app = typer.Typer(
    name="grindstone",
    help=f"Keeps game NPCs learning from every match they play, over Kafka.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals may hold a password
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"grindstone {code_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the command itself."""
    # A command says in one line what went wrong; processes configure their logs themselves.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())


app.command()(work.demo)
app.command()(work.up)
app.command()(work.down)
app.command()(work.run)
app.command()(look.status)
app.command()(look.topics)
app.command()(look.tail)
app.add_typer(models.models)
app.command()(prove.verify)
app.command()(players.erase)
app.add_typer(players.keys)
app.command()(data.replay)
app.command()(data.sql)
app.command()(score.backtest)
app.add_typer(score.rewards)
app.command()(data.bootstrap)
app.add_typer(learned.commands)


def main() -> None:
    """Runs the command line."""
    app()
