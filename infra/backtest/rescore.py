"""Windows scored again from the facts they hold, where the log of events is gone.

What the outcomes said and how the standing changed is in the windows, so that another reward,
weight, unit or default can be computed from them; standings at other times are not, so that
another horizon cannot.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from agents.rewards.columns import long_term_column, rescored
from agents.rewards.rules import compile_reward
from infra.backtest.refold import Part, Told, Writer
from schemas.arrow import table_to_rows
from schemas.game import Game
from schemas.records import Experience
from streams.archive import read_table
from streams.archiver.store import ArchiveError, ArchiveStore
from streams.pool import Tell


class ArchiveJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needs to score one partition's windows again."""

    url: str
    partition: int
    paths: Sequence[str]
    """Its windows, by archetype and in order."""
    games: Mapping[str, Game]
    """By name of the variant."""
    from_ms: int | None
    to_ms: int | None
    folder: str


def rescore(job: ArchiveJob, tell: Tell) -> dict[str, Part]:
    """What each variant made of the partition; for a process of its own."""
    store = ArchiveStore.open(job.url)
    writers = {
        name: Writer(job.partition, game, f"{job.folder}/{name}/windows", job.from_ms, job.to_ms)
        for name, game in job.games.items()
    }
    for done, path in enumerate(job.paths, 1):
        data = store.get(path)
        if data is None:
            msg = f"{path} must be in the archive; it went away meanwhile"
            raise ArchiveError(msg)
        table = read_table(data, path)
        for name, game in job.games.items():
            writers[name].put(score(table, game))
        tell(Told(partition=job.partition, done=done, total=len(job.paths)))
    return {name: writer.finish() for name, writer in writers.items()}


def score(table: pa.Table, game: Game) -> list[Experience]:
    """Rows of a game as another description of it rewards them; in the order given."""
    n = table.num_rows
    immediate, total = np.zeros(n), np.zeros(n)
    kinds = np.array(table.column("domain").to_pylist(), dtype=object)
    who = np.array(table.column("archetype").to_pylist(), dtype=object)
    told = table.column("outcome_facts").is_valid().to_numpy()
    long_term = np.zeros(n)
    for name, archetype in sorted(set(zip(kinds, who, strict=True))):
        domain, reward = game.domains[name], game.reward_of(name, archetype)
        rule = compile_reward(game.rewards[reward], f"$.rewards.{reward}")
        here = (kinds == name) & (who == archetype)
        for answered in (True, False):  # a user's function may not know what to make of no facts
            rows = np.flatnonzero(here & (told == answered))
            part = table.take(rows)
            if answered:
                immediate[rows], long_term[rows], total[rows] = rescored(part, domain, rule)
            else:
                later = long_term_column(part, domain)
                immediate[rows], long_term[rows] = domain.default_reward, later
                total[rows] = domain.default_reward + domain.long_term_weight * later
    return [
        msgspec.structs.replace(
            row,
            immediate=float(immediate[at]),
            long_term=float(long_term[at]),
            total=float(total[at]),
            reward_version=game.reward_of(row.domain, row.archetype),
        )
        for at, row in enumerate(table_to_rows(table))
    ]
