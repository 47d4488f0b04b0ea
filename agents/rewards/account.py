"""The account of one actor: its open decisions and what they will be rewarded from."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

import msgspec

from schemas.events import Detail
from schemas.records import Signal

EPISODES_KEPT = 8
RECENT = 16
"""Settled decisions whose ids an actor remembers, to tell repeats and late outcomes from bad."""

TRIM_AT = 16
"""Standings and the like are looked through for what can go once there are more of them."""

_END = "\0"


def _mark(decision_id: str) -> str:
    """Return an id without NUL, another one for each; as a rule it is the id."""
    if _END in decision_id or "\1" in decision_id:
        return decision_id.replace("\1", "\1\1").replace(_END, "\1\2")
    return decision_id


class Came(msgspec.Struct, array_like=True, gc=False):
    """The outcome of an open decision: the first one by event time, and what any of them said."""

    time_ms: int
    signal: str
    facts: dict[str, float]
    success: bool | None
    terminated: bool
    truncated: bool
    details: dict[str, Detail] | None = None
    next_facts: dict[str, float] | None = None
    more: list[Signal] | None = None
    """Further signals, by event time and then by arrival."""

    def knows(self, signal: str) -> bool:
        """Whether a signal of that name has come."""
        return signal == self.signal or any(s.name == signal for s in self.more or ())


class Open(msgspec.Struct, array_like=True, gc=False):
    """A decision that is not settled, or may still be revised. Its event is kept apart."""

    time_ms: int
    """Decision time, bounded by the log's own time so that skew cannot keep it open."""
    game: str
    domain: str
    decision_id: str
    episode: str
    outcome: Came | None = None
    successor: str | None = None
    """The actor's next decision of the episode, whose observation is this one's next."""
    next_observation: bytes | None = None
    next_legal: bytes | None = None
    ended: bool = False
    """The episode is over: nothing follows."""
    end_terminated: bool = False
    end_truncated: bool = False
    """What the episode's end said, for an outcome that comes after it."""
    next_facts: dict[str, float] | None = None
    opponent: str | None = None
    revision: int = 0
    """Of what was written last; only for what is settled, as the next two."""
    written: bytes = b""
    """Digest of what was written last (`agents.rewards.settle.content_digest`)."""
    total: float = 0.0
    followed: bool = False
    """A decision followed that has been let go since; `next_observation` is what it saw."""

    @property
    def complete(self) -> bool:
        """Whether outcome and what followed are known."""
        if self.outcome is None:
            return False
        follows = self.successor is not None or self.next_observation is not None or self.ended
        return follows or self.outcome.terminated


_open = msgspec.msgpack.Decoder(Open).decode

Decided = tuple[int, str, str | None]
"""(event time, decision id, opponent)"""
Hit = tuple[int, str, str, float]
"""(event time, opponent, fact name, value)"""


class Actor(msgspec.Struct, array_like=True):
    """The account of one actor."""

    last_time_ms: int = 0
    episodes: list[tuple[str, int]] = []
    """Latest episodes and the last step seen in each."""
    recent: str = ""
    """Settled decisions and whether their outcome had come, oldest first: NUL, + or -, and the id
    of each, and a NUL at the end. One string is read back far faster than a list of pairs."""
    standings: list[tuple[int, str, float]] = []
    """(event time, fact name, value), in event-time order, as far back as decisions need."""
    ids: list[str] = []
    """Of what is open, in its order."""
    open: list[msgspec.Raw] = []
    """Open decisions in the order of their arrival, each decoded (to `Open`) when it is asked for:
    one event concerns one or two of them, and all ten would cost a fifth of what an event costs."""
    settled: list[Open] = []
    """Settled decisions that what comes late may still revise, oldest first."""
    decided: dict[str, list[Decided]] = {}
    """By domain, in event-time order: decisions among which a standing's change is shared."""
    hits: list[Hit] = []
    """What opponents did to the actor, in event-time order."""
    trim_at: int = TRIM_AT
    """Length at which standings are looked through next: twice what was left the last time, so
    that it costs little however many must stay."""
    room: int = 0
    """Bytes that events may add before the account is measured (`agents.rewards.room`)."""

    def opened(self) -> list[Open]:
        """Return all open decisions, oldest first."""
        return [self._entry(i) for i in range(len(self.open))]

    def find(self, decision_id: str) -> Open | None:
        """Return an open decision."""
        if decision_id not in self.ids:
            return None
        return self._entry(self.ids.index(decision_id))

    def add(self, entry: Open) -> None:
        """Keep a new open decision."""
        self.ids.append(entry.decision_id)
        entries: list[Any] = self.open
        entries.append(entry)

    def remove(self, entry: Open) -> list[Open]:
        """Take an open decision out; returns the older ones: it may follow one."""
        n_older = self.ids.index(entry.decision_id)
        del self.ids[n_older], self.open[n_older]
        return [self._entry(i) for i in range(n_older)] if n_older else []

    def _entry(self, i: int) -> Open:
        entries: list[Any] = self.open
        entry: Open | msgspec.Raw = entries[i]
        if isinstance(entry, msgspec.Raw):
            entry = entries[i] = _open(entry)
        return entry

    def find_settled(self, decision_id: str) -> Open | None:
        """Return a settled decision that may still be revised."""
        for entry in self.settled:
            if entry.decision_id == decision_id:
                return entry
        return None

    def latest(self, episode: str) -> Open | None:
        """Return the newest decision of an episode that goes on, an open one if there is one."""
        if self.open:  # as a rule it is the last one
            entry = self._entry(-1)
            if entry.episode == episode and not entry.ended:
                return entry
        for entries in (self.opened(), self.settled):
            for entry in reversed(entries):
                if entry.episode == episode and not entry.ended:
                    return entry
        return None

    def was_settled(self, decision_id: str) -> bool | None:
        """Return whether a recently settled decision had its outcome; None when not known."""
        mark = _mark(decision_id)
        if f"{_END}+{mark}{_END}" in self.recent:
            return True
        return False if f"{_END}-{mark}{_END}" in self.recent else None

    def last_step(self, episode: str) -> int | None:
        """Return the last step seen in an episode."""
        if self.episodes and self.episodes[-1][0] == episode:
            return self.episodes[-1][1]
        for known, step in reversed(self.episodes):
            if known == episode:
                return step
        return None

    def note_step(self, episode: str, step: int) -> None:
        """Keep the last step of an episode, the latest episode last."""
        if self.episodes and self.episodes[-1][0] == episode:
            self.episodes[-1] = (episode, step)
            return
        self.episodes = [e for e in self.episodes if e[0] != episode][1 - EPISODES_KEPT :]
        self.episodes.append((episode, step))

    def note_settled(self, decision_id: str, had_outcome: bool) -> None:
        """Remember a settled decision."""
        sign = "+" if had_outcome else "-"
        self.recent = f"{self.recent or _END}{sign}{_mark(decision_id)}{_END}"
        if self.recent.count(_END) > RECENT + 1:
            self.recent = self.recent[self.recent.index(_END, 1) :]

    def note_standing(self, time_ms: int, name: str, value: float) -> None:
        """Keep a standing in its place by event time; a later word on the same time wins."""
        at = len(self.standings)
        while at and self.standings[at - 1][0] > time_ms:
            at -= 1
        self.standings.insert(at, (time_ms, name, value))

    def note_decided(self, domain: str, decided: Decided) -> None:
        """Keep a decision's time in its place."""
        if domain not in self.decided:
            self.decided = {**self.decided, domain: []}
        times = self.decided[domain]
        at = len(times)
        while at and times[at - 1][:2] > decided[:2]:
            at -= 1
        times.insert(at, decided)

    def note_hit(self, hit: Hit) -> None:
        """Keep what an opponent did in its place by event time."""
        insort(self.hits, hit)

    def standing(self, name: str, time_ms: int) -> float | None:
        """Return the standing as of a time: the last one not after it."""
        for at, known, value in reversed(self.standings):
            if at <= time_ms and known == name:
                return value
        return None

    def forget(self, horizon_ms: int) -> None:
        """Drop what no decision, open or to come, can ask for any more.

        Of standings all but the last before the oldest decision stay, and of decisions those that
        may share a change with it: `horizon_ms`, the longest there is, before it.
        """
        kept = [*self.opened(), *self.settled]
        oldest = min((e.time_ms for e in kept), default=self.last_time_ms)
        self._forget_standings(oldest)
        if self.decided:
            times = {
                domain: times[bisect_left(times, (oldest - horizon_ms,)) :]
                for domain, times in self.decided.items()
            }
            self.decided = {domain: left for domain, left in times.items() if left}
        if self.hits:
            self.hits = self.hits[bisect_left(self.hits, (oldest,)) :]
        self.trim_at = max(TRIM_AT, 2 * self._length())

    def _forget_standings(self, oldest_ms: int) -> None:
        keep: list[tuple[int, str, float]] = []
        seen: set[str] = set()
        for at, name, value in reversed(self.standings):
            if at > oldest_ms or name not in seen:
                keep.append((at, name, value))
            if at <= oldest_ms:
                seen.add(name)
        self.standings = keep[::-1]

    @property
    def is_long(self) -> bool:
        """Whether it is time to look for what can be dropped."""
        if not (self.standings or self.hits or self.decided):
            return False
        return self._length() > self.trim_at

    def _length(self) -> int:
        longest = max(map(len, self.decided.values()), default=0) if self.decided else 0
        return max(len(self.standings), len(self.hits), longest)
