"""The live matches of one process: worlds, rivals and the events that tell of them.

No Kafka, no clock and no waiting here: `TribesMatches.step` is handed the time and returns what
was said.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Choice, Policy, RowRandom
from agents.policies.mix import EpsilonMix
from games.match import MatchEnd, Step
from games.seeds import match_seed, share, stream_keys
from games.tribes import rules
from games.tribes.events import (
    GAME,
    TURN_MS,
    Chosen,
    Seat,
    Standings,
    arrived,
    at_once,
    decided,
    ended,
    result_of,
    standings,
    suffered,
)
from games.tribes.scripted import ScriptedPolicy, ScriptedRule
from games.tribes.settings import BATTLE, TribesSettings, domain_of
from games.tribes.view import observe
from games.tribes.world import Tribes, Turn
from schemas.events import ActorEvent

_T = rules.TRIBES


class TribesMatches:
    """Many matches at a time, our chief in one seat of each, rivals in the others.

    The rivals are led by the script, in a share of the matches by a former champion.
    With the same seed, incarnation and policies the same events come: only their times are
    handed in. The seat goes round from match to match.
    """

    def __init__(self, settings: TribesSettings, seed: int, incarnation: str) -> None:
        self._seed = f"{seed}/{incarnation}"
        self.policy: Policy = EpsilonMix(ScriptedRule(), settings.scripted_epsilon)
        """Decides from the next step on; change it at will."""
        self.earlier: list[Policy] = []
        """Former champions; one of them leads the rivals in a share of the matches to come."""
        self._scripted: Policy = ScriptedPolicy()
        self._settings = settings
        n = settings.worlds
        self._rivals: list[Policy] = [self._scripted] * n
        """Who leads the three rivals in each world."""
        self._worlds = Tribes(n)
        self._names = [f"{GAME}-{incarnation}-w{k}" for k in range(n)]
        self._n_matches = [0] * n
        self._seats: list[Seat] = []
        self._expected: dict[str, bool] = {}
        """Whether a march on its way was expected to win, by its decision."""
        self._streams = RowRandom(np.zeros(n * _T, np.uint64))
        for k in range(n):
            self._seats.append(self._begin(k))

    @property
    def n_worlds(self) -> int:
        """How many matches run at a time."""
        return len(self._names)

    def step(self, now_ms: int) -> Step:
        """Takes one turn in every world; a match that is over makes room for the next first."""
        for k in np.flatnonzero(self._worlds.over).tolist():
            self._seats[k] = self._begin(k)
        n, version = self.n_worlds, self.policy.version
        seen = observe(self._worlds).reshape(n * _T, -1)
        legal = self._worlds.legal().reshape(n * _T, -1)
        seats = np.array([seat.world * _T + seat.tribe for seat in self._seats])
        choice = self.policy.act(seen[seats], legal[seats], self._streams.rows(seats))
        actions = np.zeros(n * _T, np.int64)
        actions[seats] = choice.actions
        for rival, rows in self._led():
            actions[rows] = rival.act(seen[rows], legal[rows], self._streams.rows(rows)).actions
        chosen = [_chosen(seen[row], legal[row], choice, k, version) for k, row in enumerate(seats)]
        table = standings(self._worlds)
        said = [
            decided(self._worlds, table, seat, chosen[k], now_ms)
            for k, seat in enumerate(self._seats)
        ]
        turn, after_ms = self._worlds.step(actions.reshape(n, _T)), now_ms + TURN_MS
        events: list[ActorEvent] = []
        ends: list[MatchEnd] = []
        over, points = self._worlds.over, self._worlds.points
        table = standings(self._worlds)
        fought = set(turn.battles.world.tolist())
        for k, seat in enumerate(self._seats):
            events.append(said[k])
            events.append(self._came(table, seat, chosen[k].action, turn, after_ms))
            if k in fought:
                events += arrived(seat, turn.battles, self._expected, after_ms)
                events += suffered(table, seat, turn.battles, after_ms)
            if over[k]:
                result = result_of(points[k], seat.tribe)
                events.append(ended(table, seat, result, after_ms))
                ends.append(MatchEnd(self._rivals[k].version, version, result, rules.TURNS))
        return Step(events, n, version, list(range(n)), ends)

    def _led(self) -> Iterator[tuple[Policy, NDArray[np.int64]]]:
        """Every policy that leads rivals, with the rows of those, one batch for each policy."""
        led: dict[int, tuple[Policy, list[int]]] = {}
        for seat, rival in zip(self._seats, self._rivals, strict=True):
            _, rows = led.setdefault(id(rival), (rival, []))
            rows += [seat.world * _T + tribe for tribe in range(_T) if tribe != seat.tribe]
        for rival, rows in led.values():
            yield rival, np.array(rows)

    def _came(
        self, table: Standings, seat: Seat, action: int, turn: Turn, after_ms: int
    ) -> ActorEvent:
        """What a turn brought to a tribe of ours at once."""
        if domain_of(action) == BATTLE:
            sent = seat.decision_id(int(self._worlds.turn[seat.world]) - 1)
            self._expected[sent] = bool(turn.expected[seat.world, seat.tribe])
        return at_once(self._worlds, table, seat, action, turn, after_ms)

    def _begin(self, k: int) -> Seat:
        n = self._n_matches[k]
        self._n_matches[k] += 1
        name = self._names[k]
        seed = match_seed("live", self._seed, name, n)
        self._rivals[k] = self._rival(share("opponent", self._seed, name, n))
        self._worlds.reset(k, seed)
        self._streams.restart(np.arange(k * _T, (k + 1) * _T), stream_keys(seed, _T))
        if n:  # marches that were on their way when the match before ended
            gone = self._seats[k].episode + "-"
            self._expected = {d: e for d, e in self._expected.items() if not d.startswith(gone)}
        return Seat(k, (k + n) % _T, name, f"{name}-m{n}")

    def _rival(self, draw: float) -> Policy:
        """Who leads the rivals, for a number in [0, 1)."""
        place = draw / max(self._settings.opponent_earlier, 1e-12)
        if place < 1 and self.earlier:
            return self.earlier[int(place * len(self.earlier))]
        return self._scripted


def _chosen(
    seen: NDArray[np.float32], legal: NDArray[np.bool_], choice: Choice, k: int, version: str
) -> Chosen:
    return Chosen(
        seen,
        legal,
        int(choice.actions[k]),
        float(choice.propensities[k]),
        choice.probabilities[k],
        bool(choice.explored[k]),
        version,
    )
