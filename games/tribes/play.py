"""The live matches of one process: worlds, rivals and the events that tell of them.

No Kafka, no clock and no waiting here: `TribesMatches.step` is handed the time and returns what
was said.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.policies.choice import Choice, Policy, RowRandom
from agents.policies.mix import EpsilonMix
from games.match import MatchEnd, Step
from games.seeds import match_seed, stream_keys
from games.tribes import rules
from games.tribes.events import (
    GAME,
    Chosen,
    Seat,
    arrived,
    at_once,
    decided,
    ended,
    result_of,
    standings,
    suffered,
)
from games.tribes.scripted import ScriptedPolicy, ScriptedRule
from games.tribes.settings import TribesSettings
from games.tribes.view import observe
from games.tribes.world import Tribes, Turn
from schemas.events import ActorEvent

_T = rules.TRIBES


class TribesMatches:
    """Many matches at a time, our chief in one seat of each, the script in the others.

    With the same seed, incarnation and policies the same events come: only their times are
    handed in. The seat goes round from match to match.
    """

    def __init__(self, settings: TribesSettings, seed: int, incarnation: str) -> None:
        self._seed = f"{seed}/{incarnation}"
        self.policy: Policy = EpsilonMix(ScriptedRule(), settings.scripted_epsilon)
        """Decides from the next step on; change it at will."""
        self.earlier: list[Policy] = []
        """Former champions; the rivals here are always the script."""
        self._scripted = ScriptedPolicy()
        n = settings.worlds
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
        others = np.setdiff1d(np.arange(n * _T), seats)
        choice = self.policy.act(seen[seats], legal[seats], self._streams.rows(seats))
        actions = np.zeros(n * _T, np.int64)
        actions[seats] = choice.actions
        rivals = self._scripted.act(seen[others], legal[others], self._streams.rows(others))
        actions[others] = rivals.actions
        chosen = [_chosen(seen[row], legal[row], choice, k, version) for k, row in enumerate(seats)]
        table = standings(self._worlds)
        said = [
            decided(self._worlds, table, seat, chosen[k], now_ms)
            for k, seat in enumerate(self._seats)
        ]
        turn = self._worlds.step(actions.reshape(n, _T))
        events: list[ActorEvent] = []
        ends: list[MatchEnd] = []
        over, points = self._worlds.over, self._worlds.points
        table = standings(self._worlds)
        fought = set(turn.battles.world.tolist())
        for k, seat in enumerate(self._seats):
            events.append(said[k])
            events += self._came(seat, chosen[k].action, turn, now_ms)
            if k in fought:
                events += arrived(seat, turn.battles, self._expected, now_ms)
                events += suffered(table, seat, turn.battles, now_ms)
            if over[k]:
                result = result_of(points[k], seat.tribe)
                events.append(ended(table, seat, result, now_ms))
                ends.append(MatchEnd("scripted", version, result, rules.TURNS))
        return Step(events, n, version, list(range(n)), ends)

    def _came(self, seat: Seat, action: int, turn: Turn, now_ms: int) -> list[ActorEvent]:
        """What a turn brought to a tribe of ours at once."""
        events: list[ActorEvent] = []
        outcome = at_once(self._worlds, seat, action, turn, now_ms)
        if outcome is not None:
            events.append(outcome)
        else:
            sent = seat.decision_id(int(self._worlds.turn[seat.world]) - 1)
            self._expected[sent] = bool(turn.expected[seat.world, seat.tribe])
        return events

    def _begin(self, k: int) -> Seat:
        n = self._n_matches[k]
        self._n_matches[k] += 1
        name = self._names[k]
        seed = match_seed("live", self._seed, name, n)
        self._worlds.reset(k, seed)
        self._streams.restart(np.arange(k * _T, (k + 1) * _T), stream_keys(seed, _T))
        if n:  # marches that were on their way when the match before ended
            gone = self._seats[k].episode + "-"
            self._expected = {d: e for d, e in self._expected.items() if not d.startswith(gone)}
        return Seat(k, (k + n) % _T, name, f"{name}-m{n}")


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
