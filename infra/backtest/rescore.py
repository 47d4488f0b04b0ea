"""Windows scored again from the facts they hold, where the log of events is gone.

What the outcomes said is in the windows, so that another reward, weight or default can be computed
from them; standings at other times are not, so that another horizon cannot.
"""

from collections.abc import Mapping, Sequence

import msgspec

from agents.rewards.formulas import clip, immediate
from agents.rewards.signals import aggregate
from infra.backtest.refold import Part, Told, Writer
from infra.pool import Tell
from schemas.game import Domain, Game, Reward
from schemas.records import Experience
from streams.archiver.files import read_rows
from streams.archiver.store import ArchiveError, ArchiveStore


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
        rows = read_rows(data, path)
        for name, game in job.games.items():
            writers[name].put(score(rows, game))
        tell(Told(partition=job.partition, done=done, total=len(job.paths)))
    return {name: writer.finish() for name, writer in writers.items()}


def score(rows: Sequence[Experience], game: Game) -> list[Experience]:
    """Rows of a game as another description of it rewards them; in the order given."""
    found = []
    values = _values(rows, game)
    for row, value in zip(rows, values, strict=True):
        domain = game.domains[row.domain]
        total = value + domain.long_term_weight * row.long_term
        found.append(
            msgspec.structs.replace(row, immediate=value, total=total, reward_version=domain.reward)
        )
    return found


def _values(rows: Sequence[Experience], game: Game) -> list[float]:
    return [_immediate(row, game.domains[row.domain], game.rewards) for row in rows]


def _immediate(row: Experience, domain: Domain, rewards: Mapping[str, Reward]) -> float:
    if row.outcome_facts is None:
        return domain.default_reward
    reward = rewards[domain.reward]
    value = immediate(reward, row.outcome_facts)
    if not row.signals:
        return value
    signals = [(row.outcome_time_ms or 0, value)]
    signals += [(s.time_ms, immediate(reward, s.facts)) for s in row.signals]
    return clip(aggregate(domain.aggregate, signals))
