"""History told again from the database is that of the archive: whole episodes, newest revisions."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from infra.bootstrap.history import DatabaseHistory, Retold
from infra.bootstrap.run import Wrote, write
from infra.bootstrap.source import Asked, BootstrapError
from schemas.database import DatabaseSettings
from schemas.events import ActorEvent, Decision
from schemas.records import Experience, Place
from streams.timescale.store import Batch, Store
from tests.infra.lake import duels, fold, log_of

pytestmark = pytest.mark.integration


class Kept:
    """A writer that keeps."""

    def __init__(self) -> None:
        self.events: list[ActorEvent] = []

    async def send(self, event: ActorEvent) -> None:
        self.events.append(event)


def test_history_comes_from_the_database(database: DatabaseSettings) -> None:
    rows = [row for row in fold(log_of(), duels()) if isinstance(row, Experience)]
    first = next(row for row in rows if row.actor_id == "a" and row.status == "observed")
    place = msgspec.structs.replace(rows[-1].origin, offset=rows[-1].origin.offset + 1)
    later = msgspec.structs.replace(
        first, revision=1, outcome_facts={"hits": 9.0}, status="revised", origin=place
    )
    store = Store.open(database, "experiences")
    store.place(0)
    store.write(Batch(0, 0, Place(200, place), [*rows, later], 5_000))
    store.close()
    history = DatabaseHistory(database, duels())
    found = history.rows("fighter", 1_000, 1)
    observed = [r for r in rows if r.actor_id == "a" and r.status == "observed"]
    assert [r.step for r in found] == sorted(r.step for r in observed)
    assert next(r for r in found if r.step == first.step).outcome_facts == {"hits": 9.0}
    assert history.rows("guard", 7, 1) == history.rows("guard", 1_000, 1)[:7]

    game = duels(horizon_ms=0, standing=None)
    wanted = Asked(samples=20, archetypes=("fighter",), seed=1, incarnation="i1")
    kept = Kept()
    source = Retold(history, game, wanted)
    asyncio.run(write(source, game, wanted, kept, Wrote(source="history", incarnation="i1"), 1e9))
    assert sum(isinstance(event, Decision) for event in kept.events) == 20


def test_a_database_that_is_away_is_told() -> None:
    nowhere = DatabaseSettings(port=1)
    with pytest.raises(BootstrapError, match="timescale must be a database that answers"):
        DatabaseHistory(nowhere, duels()).rows("fighter", 1, 1)
