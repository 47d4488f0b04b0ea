"""Writes initial data to `game-events`, at a game's own pace, and counts it."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from infra.bootstrap.history import ArchiveHistory, History, Retold
from infra.bootstrap.scripted import scripted
from infra.bootstrap.source import Asked, BootstrapError, Source
from infra.bootstrap.synthetic import Synthetic
from infra.settings import Settings
from schemas.errors import refuse, shown
from schemas.events import ActorEvent, Decision, EpisodeEnd, Outcome
from schemas.game import Game, check_against_game
from streams.writer import EventWriter

SAMPLES = 10_000
RATE = 2_000.0
"""Decisions a second; a learner and a fold beside it keep up with this on two cores."""
Kind = Literal["scripted", "synthetic", "history"]
OnProgress = Callable[[int, int | None], None]


class Writer(Protocol):
    """Where events go; waits while it has no room."""

    async def send(self, event: ActorEvent) -> None:
        """Takes an event."""
        ...


class Wrote(msgspec.Struct, kw_only=True):
    """What was written."""

    source: str
    incarnation: str
    """In every id of it."""
    decisions: dict[str, int] = {}
    """By archetype."""
    events: int = 0
    seconds: float = 0.0


def pick_archetypes(game: Game, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The archetypes to make data of: those named, or all.

    Raises:
        SchemaError: one is not described.
    """
    for name in wanted:
        if name not in game.archetypes:
            refuse("--archetype", f"one of {', '.join(sorted(game.archetypes))}", shown(name))
    return wanted or tuple(game.archetypes)


def make_source(kind: Kind, settings: Settings, asked: Asked, history: History | None) -> Source:
    """The source of a kind; `history` None stands for the windows of the settings.

    Raises:
        SchemaError: there is no such source for the game.
        BootstrapError: it has nothing of an archetype.
    """
    game = settings.load_game()
    if kind == "scripted":
        return scripted(game, asked)
    if kind == "synthetic":
        return Synthetic(game, asked)
    return Retold(history or ArchiveHistory(settings.windows_dir, game), game, asked)


async def write(
    source: Source,
    game: Game,
    asked: Asked,
    writer: Writer,
    wrote: Wrote,
    rate: float = RATE,
    on_progress: OnProgress | None = None,
) -> None:
    """Write a source's events until each archetype has its samples, and end open episodes.

    Events are stamped with the present time: an event that is dated back would find its outcome
    waited for no longer, and one that is dated ahead would be flagged.

    Raises:
        SchemaError: the source says what the description does not allow.
    """
    told = _Told(asked)
    began = time.monotonic()
    while not told.is_enough:
        happened = source.step(_now_ms())
        if not happened:
            break
        for event in happened:
            if told.takes(event):
                await _send(event, game, writer, wrote)
        wrote.decisions = dict(sorted(told.n.items()))
        if on_progress is not None:
            on_progress(told.n_wanted, asked.samples * len(asked.archetypes))
        ahead_s = told.n.total() / rate - (time.monotonic() - began)
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
    for decision in told.open:
        await _send(_end(decision, _now_ms()), game, writer, wrote)
    wrote.seconds = round(time.monotonic() - began, 2)


class _Told:
    """Counts decisions, and knows whose episodes are still on."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._actors: set[str] = set()
        self.n: Counter[str] = Counter()
        self._open: dict[str, dict[str, Decision]] = {}
        """By actor and episode: an actor may be in several at a time."""

    @property
    def open(self) -> list[Decision]:
        """The last decision of each episode that goes on."""
        return [last for episodes in self._open.values() for last in episodes.values()]

    @property
    def n_wanted(self) -> int:
        """Decisions so far, those beyond an archetype's samples left out."""
        return sum(min(self.n[name], self._asked.samples) for name in self._asked.archetypes)

    @property
    def is_enough(self) -> bool:
        """Whether each archetype has its samples."""
        return self.n_wanted == self._asked.samples * len(self._asked.archetypes)

    def takes(self, event: ActorEvent) -> bool:
        """Whether an event is of an archetype that was asked for; only decisions say theirs."""
        if isinstance(event, Decision):
            if event.archetype not in self._asked.archetypes:
                return False
            self._actors.add(event.actor_id)
            self.n[event.archetype] += 1
            self._open.setdefault(event.actor_id, {})[event.episode] = event
            return True
        open_here = self._open.get(event.actor_id, {})
        if isinstance(event, EpisodeEnd):
            open_here.pop(event.episode, None)
        elif isinstance(event, Outcome) and (event.terminated or event.truncated):
            for last in list(open_here.values()):
                if last.decision_id == event.decision_id:
                    del open_here[last.episode]
        return event.actor_id in self._actors


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def bootstrap(
    settings: Settings,
    kind: Kind,
    samples: int,
    archetypes: tuple[str, ...],
    rate: float,
    history: History | None = None,
    on_progress: OnProgress | None = None,
) -> Wrote:
    """Write initial data to the log of the settings and return what was written."""
    game = settings.load_game()
    incarnation = secrets.token_hex(4)
    asked = Asked(
        samples=samples,
        archetypes=pick_archetypes(game, archetypes),
        seed=settings.seed,
        incarnation=incarnation,
    )
    source = make_source(kind, settings, asked, history)
    wrote = Wrote(source=kind, incarnation=incarnation)
    async with EventWriter(settings.kafka, settings.topics) as writer:
        await write(source, game, asked, writer, wrote, rate, on_progress)
    missing = [name for name in asked.archetypes if not wrote.decisions.get(name)]
    if missing:
        msg = f"{kind} must tell of {', '.join(asked.archetypes)}; it tells nothing of {missing[0]}"
        raise BootstrapError(msg)
    return wrote


async def _send(event: ActorEvent, game: Game, writer: Writer, wrote: Wrote) -> None:
    check_against_game(event, {game.name: game})
    await writer.send(event)
    wrote.events += 1


def _end(decision: Decision, now_ms: int) -> EpisodeEnd:
    return EpisodeEnd(
        game=decision.game,
        world=decision.world,
        episode=decision.episode,
        actor_id=decision.actor_id,
        event_time_ms=now_ms,
        terminated=False,
        truncated=True,
    )
