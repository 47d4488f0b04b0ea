"""Decisions that were made before, told again as events: from windows or from the database."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b, md5
from itertools import groupby
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa

from infra.bootstrap.source import Asked, BootstrapError
from infra.sql import Lake, make_views, quoted
from schemas.arrow import experience_schema, table_to_rows
from schemas.database import DatabaseSettings
from schemas.events import ActorEvent, Decision, Outcome
from schemas.game import Game
from schemas.limits import MAX_ID_CHARS
from schemas.records import Experience

VERSION = "history"
EPISODES_AT_A_TIME = 16


class History(Protocol):
    """Where decisions of the past are."""

    def rows(self, archetype: str, samples: int, seed: int) -> Sequence[Experience]:
        """Return settled decisions with outcomes, whole episodes, by actor, episode and step."""
        ...


class ArchiveHistory:
    """The windows of an archive."""

    def __init__(self, folder: Path, game: Game) -> None:
        self._folder = folder
        self._game = game

    def rows(self, archetype: str, samples: int, seed: int) -> Sequence[Experience]:
        """See `History.rows`; which episodes are taken depends on the seed alone."""
        schema = experience_schema(self._game.observation.size, self._game.actions.n)
        with duckdb.connect(":memory:") as connection:
            make_views(connection, Lake(self._folder))
            there = {row[0] for row in connection.execute("DESCRIBE experiences").fetchall()}
            names = [name for name in schema.names if name in there]
            table = connection.execute(
                _EPISODES.format(
                    columns=", ".join(f'"{name}"' for name in names),
                    game=quoted(self._game.name),
                    archetype=quoted(archetype),
                    seed=seed,
                    samples=samples,
                )
            ).to_arrow_table()
        for name in schema.names:
            if name not in there:  # a window of an older version
                nothing = pa.nulls(table.num_rows, schema.field(name).type)
                table = table.append_column(schema.field(name), nothing)
        return table_to_rows(table.select(schema.names))


_EPISODES = """
WITH told AS (
    SELECT * FROM decisions_latest
    WHERE game = {game} AND archetype = {archetype} AND outcome_facts IS NOT NULL
        AND status IN ('observed', 'revised') AND (terminated OR next_observation IS NOT NULL)
), episodes AS (
    SELECT actor_id, episode, count(*) AS n FROM told GROUP BY ALL
), picked AS (
    SELECT actor_id, episode FROM (
        SELECT *, sum(n) OVER (
            ORDER BY hash(actor_id || episode || {seed}), actor_id, episode
        ) AS upto FROM episodes
    ) WHERE upto - n < {samples}
)
SELECT {columns} FROM told JOIN picked USING (actor_id, episode)
ORDER BY hash(actor_id || episode || {seed}), actor_id, episode, step LIMIT {samples}
"""


class DatabaseHistory:
    """The database of the second sink."""

    def __init__(self, settings: DatabaseSettings, game: Game) -> None:
        self._settings = settings
        self._game = game

    def rows(self, archetype: str, samples: int, seed: int) -> Sequence[Experience]:
        """See `History.rows`; which episodes are taken depends on the seed alone.

        Raises:
            BootstrapError: no database answers, or it is none of ours.
        """
        import psycopg

        from streams.timescale.stored import stored_rows

        kind = (self._game.name, archetype)
        values = (*kind, str(seed), *kind, samples)
        try:
            with psycopg.connect(**self._settings.connection(), autocommit=True) as connection:
                found = list(stored_rows(connection, _STORED, values))
        except psycopg.Error as error:
            got = " ".join(str(error).split())
            msg = f"timescale must be a database that answers and holds history; got {got}"
            raise BootstrapError(msg) from error
        found.sort(key=lambda r: (_episode_key(r, seed), r.actor_id, r.episode, r.step))
        return found[:samples]


_TOLD = """
game = %s AND archetype = %s AND outcome_facts IS NOT NULL
AND status IN ('observed', 'revised') AND (terminated OR next_observation IS NOT NULL)
"""
_STORED = f"""
{_TOLD} AND NOT EXISTS (
    SELECT 1 FROM experiences newer WHERE newer.decision_id = experiences.decision_id
        AND newer.decision_time = experiences.decision_time
        AND newer.revision > experiences.revision
) AND (actor_id, episode) IN (
    SELECT actor_id, episode FROM (
        SELECT actor_id, episode, n, sum(n) OVER (ORDER BY drawn, actor_id, episode) AS upto FROM (
            SELECT actor_id, episode, count(*) AS n,
                md5(actor_id || '/' || episode || '/' || %s) COLLATE "C" AS drawn
            FROM decisions_latest WHERE {_TOLD} GROUP BY actor_id, episode
        ) AS episodes
    ) AS drawn_episodes WHERE upto - n < %s
)
"""


def _episode_key(row: Experience, seed: int) -> str:
    return md5(f"{row.actor_id}/{row.episode}/{seed}".encode(), usedforsecurity=False).hexdigest()


class Retold:
    """Episodes of the past, some of them side by side, a step of each at a time."""

    def __init__(self, history: History, game: Game, asked: Asked) -> None:
        self._game, self._asked = game, asked
        found: list[list[Experience]] = []
        for archetype in asked.archetypes:
            rows = history.rows(archetype, asked.samples, asked.seed)
            if not rows:
                msg = (
                    f"history must have observed decisions of {archetype}; it has none (name "
                    f"other archetypes, or begin with synthetic or scripted ones)"
                )
                raise BootstrapError(msg)
            found += [list(part) for _, part in groupby(rows, lambda r: (r.actor_id, r.episode))]
        self._waiting = iter(found)
        self._on: list[Iterator[tuple[Experience, bool]]] = []

    def step(self, now_ms: int) -> Sequence[ActorEvent]:
        """The next decision of each episode that is being told."""
        events: list[ActorEvent] = []
        while not events:
            while len(self._on) < EPISODES_AT_A_TIME:
                episode = next(self._waiting, None)
                if episode is None:
                    break
                self._on.append(_with_last(episode))
            if not self._on:
                return []
            for telling in list(self._on):
                row = next(telling, None)
                if row is None:
                    self._on.remove(telling)
                else:
                    events += self._retell(*row, now_ms)
        return events

    def _retell(self, row: Experience, last: bool, now_ms: int) -> list[ActorEvent]:
        """A decision and its outcomes, at the present time and under names of their own."""
        domain = self._game.domains.get(row.domain)
        if domain is None:
            msg = f"domain of {row.decision_id} must be described for {row.game}; got {row.domain}"
            raise BootstrapError(msg)
        actor_id = self._named(row.actor_id)
        decision_id = self._named(row.decision_id)
        decision = Decision(
            decision_id=decision_id,
            game=row.game,
            world=self._named(row.world),
            episode=self._named(row.episode),
            actor_id=actor_id,
            archetype=row.archetype,
            domain=row.domain,
            event_time_ms=now_ms,
            step=row.step,
            observation=row.observation,
            legal=row.legal,
            action=row.action,
            propensity=row.propensity,
            probabilities=row.probabilities,
            continuous=row.continuous,
            policy_version=VERSION,
            explored=row.explored,
            opponent_id=row.opponent_id,
            facts=row.facts,
            action_type=row.action_type,
            confidence=row.confidence,
            game_time=row.game_time,
            details={**(row.details or {}), "policy_version": row.policy_version},
        )
        follows = last and not row.terminated
        first = Outcome(
            decision_id=decision_id,
            game=row.game,
            actor_id=actor_id,
            event_time_ms=now_ms,
            facts=row.outcome_facts or {},
            success=row.success,
            terminated=row.terminated,
            truncated=row.truncated or follows,
            next_observation=row.next_observation if follows else None,
            next_legal=row.next_legal if follows else None,
            next_facts=row.next_facts,
            details=row.outcome_details,
        )
        more = [
            Outcome(
                decision_id=decision_id,
                game=row.game,
                actor_id=actor_id,
                event_time_ms=now_ms,
                facts=signal.facts,
                signal=signal.name,
            )
            for signal in row.signals or ()
            if signal.name
        ]
        return [decision, first, *more]

    def _named(self, name: str) -> str:
        found = f"{VERSION}-{self._asked.incarnation}-{name}"
        if len(found) <= MAX_ID_CHARS:
            return found
        return f"{VERSION}-{self._asked.incarnation}-{blake2b(name.encode()).hexdigest()[:32]}"


def _with_last(rows: list[Experience]) -> Iterator[tuple[Experience, bool]]:
    return iter([(row, at == len(rows) - 1) for at, row in enumerate(rows)])
