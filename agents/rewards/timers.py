"""When the rewards fold must look at a decision or an actor again, by event time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from agents.rewards.plan import GamePlan
from agents.rewards.state import Named, Since, Waiting, accounts

ACTOR_IDLE_MS = 600_000
"""An actor without open decisions is forgotten after so much event time."""
FORGET = ""
"""Stands for a decision id in a timer that forgets an idle actor."""
WAKE = "\0"
"""Stands for one in the timer that sets those of an actor's decisions, after a take-over.

It sorts before every decision id, so that the timers it sets at its own time come behind it.
"""

Timer = tuple[int, Named]
"""When it is due, by event time, and what for: actor id and decision id."""

NEVER = 1 << 62


class Timers:
    """Timers in their order: a heap of the times, and what is due at each.

    Most times have one timer, so that heaps of whole timers compare more than they need to.
    """

    __slots__ = ("_due", "_times", "next_ms")

    def __init__(self, timers: Iterable[Timer] = ()) -> None:
        """Set timers."""
        self._due: dict[int, Named | list[Named] | None] = {}
        """One timer as it is, several as a heap; None where it was cancelled."""
        due = self._due
        for due_ms, named in timers:
            held = due.get(due_ms)
            if held is None:
                due[due_ms] = named
            elif isinstance(held, list):
                held.append(named)
            else:
                due[due_ms] = [held, named]
        for held in due.values():
            if isinstance(held, list):
                heapify(held)
        self._times = list(due)
        heapify(self._times)
        self.next_ms = self._times[0] if due else NEVER
        """When the first one is due."""

    def set(self, due_ms: int, named: Named) -> None:
        """Set a timer."""
        held = self._due.get(due_ms, ())
        if not held:
            self._due[due_ms] = named
            if held is not None:
                heappush(self._times, due_ms)
                if due_ms < self.next_ms:
                    self.next_ms = due_ms
        elif isinstance(held, list):
            heappush(held, named)
        else:
            both = self._due[due_ms] = [held, named]
            heapify(both)

    def cancel(self, due_ms: int, named: Named) -> None:
        """Remove a timer if it is the only one of its time; others must do no harm when due."""
        if self._due.get(due_ms) == named:
            self._due[due_ms] = None

    def pop(self) -> Named | None:
        """Return the first one, due at `next_ms`, and remove it; None where it was cancelled."""
        due_ms, times = self.next_ms, self._times
        held = self._due[due_ms]
        if isinstance(held, list):
            first = heappop(held)
            if len(held) == 1:  # the only one of its time from now on
                self._due[due_ms] = held[0]
            return first
        del self._due[due_ms]
        heappop(times)
        self.next_ms = times[0] if times else NEVER
        return held


def rebuild_timers(
    table: Mapping[bytes, bytes], plans: Mapping[str, GamePlan]
) -> tuple[Timers, set[str]]:
    """Return the timers of a recovered table, and the actors that one will forget.

    One timer an actor, at the first time that one of its decisions is due: the timers of all its
    decisions are set then. A million decisions of 100,000 actors take 0.5 s where all domains wait
    as long, and else 0.9 s.
    """
    domains = [(name, key, d) for name, plan in plans.items() for key, d in plan.domains.items()]
    opens = {(name, key): d.opens_ms for name, key, d in domains}
    closes = {(name, key): d.closes_ms for name, key, d in domains}
    timers: list[Timer] = []
    watched: set[str] = set()
    for actor_id, last_time_ms, due in _first_due(table, opens, closes):
        if due:
            timers.append((min(due), (actor_id, WAKE)))
        else:
            watched.add(actor_id)
            timers.append((last_time_ms + ACTOR_IDLE_MS, (actor_id, FORGET)))
    return Timers(timers), watched


def _first_due(
    table: Mapping[bytes, bytes],
    opens: Mapping[tuple[str, str], int],
    closes: Mapping[tuple[str, str], int],
) -> Iterator[tuple[str, int, list[int]]]:
    """Yield each actor, its last time, and when its decisions are due."""
    if len({*opens.values()}) == len({*closes.values()}) == 1:  # then games and domains do not tell
        wait_ms, last_ms = next(iter(opens.values())), next(iter(closes.values()))
        for actor_id, actor in accounts(table, Since):
            due = [e.time_ms + wait_ms for e in actor.open]
            if actor.settled:
                due += [e.time_ms + last_ms for e in actor.settled]
            yield actor_id, actor.last_time_ms, due
    else:
        for actor_id, brief in accounts(table, Waiting):
            due = [e.time_ms + opens[e.game, e.domain] for e in brief.open]
            due += [e.time_ms + closes[e.game, e.domain] for e in brief.settled]
            yield actor_id, brief.last_time_ms, due
