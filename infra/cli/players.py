"""Commands about human players: erase, and their keys."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

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
)
from infra.errors import is_no_broker

if TYPE_CHECKING:
    from infra.settings import Settings
    from schemas.model_events import Registered

keys = typer.Typer(
    name="keys",
    help="The keys of players' text: make the store, look at it, change the master key.",
    no_args_is_help=True,
)


@guarded
def erase(
    player: Annotated[str, typer.Argument(help="The player's id in the game, or the pseudonym.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what there is; destroy nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Destroy a player's key, so that the player's text is unreadable everywhere and for good.

    Nothing is rewritten: log, windows and their digests stay as they are. Lists the windows that
    hold rows about the player and the model versions whose range of the log had such rows. Exits 1
    when nothing is known of the player, and 3 when the key is destroyed but the broker could not
    be asked for versions.
    """
    from infra.erase import Erasure, plain, render
    from infra.privacy import open_keys

    settings = find_settings(config)
    with open_keys(settings) as store:
        erasure = Erasure(settings, store, player)
        if not dry_run:
            if not yes:
                _ask(erasure.pseudonym, len(erasure.windows))
            erasure.destroy()
        registered = _registered(settings)
        report = erasure.report(registered, dry_run)
    if as_json:
        print_json(plain(report))
    else:
        for line in render(report):
            print(line)
    raise typer.Exit(int(Exit.NO_BROKER if registered is None else Exit.OK))


def _registered(settings: "Settings") -> "list[Registered] | None":
    """Every version there is; None when the broker does not answer."""
    from infra.erase import read_registered

    try:
        return asyncio.run(read_registered(settings))
    except Exception as error:
        if is_no_broker(error):
            return None
        raise


def _ask(pseudonym: str, n_windows: int) -> None:
    if not sys.stdin.isatty():
        fail("--yes must be given where nobody can be asked; nothing was done", Exit.USAGE)
    print(f"{pseudonym} has rows in {n_windows:,} windows. Its key cannot be brought back.")
    if not typer.confirm("Destroy it?", err=True):
        fail("nothing was done", Exit.FAILED)


@keys.command()
@guarded
def init(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Make the key store; once for all machines that write events of players."""
    from infra.erase import audit
    from streams.privacy import KeyStore

    settings = read_settings(config)
    folder = settings.keys_dir.resolve()
    with KeyStore.create(folder, settings.privacy.master_key) as store:
        audit(folder, action="init", master=store.master_id)
        _tell(as_json, folder=str(folder), master=store.master_id, **store.counts())


@keys.command()
@guarded
def show(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """How many keys there are, and which master key wraps them; no key is shown."""
    from infra.privacy import open_keys

    with open_keys(read_settings(config)) as store:
        _tell(as_json, folder=str(store.folder), master=store.master_id, **store.counts())


@keys.command()
@guarded
def rotate(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Wrap all keys with a new master key and forget the old one.

    Backups of the store from before cannot be opened any more without a copy of the old master
    key, so that no erased key comes back from them. Writers go on without a restart.
    """
    from infra.erase import audit
    from infra.privacy import open_keys

    with open_keys(read_settings(config)) as store:
        before, now = store.master_id, store.rotate()
        audit(store.folder, action="rotate", master_before=before, master=now)
        _tell(as_json, folder=str(store.folder), master=now, **store.counts())


def _tell(as_json: bool, **facts: str | int) -> None:
    if as_json:
        print_json(facts)
    else:
        for name, value in facts.items():
            print(f"{name:8} {value}")
