"""What one tribe tells of a turn: its decision, what came of earlier ones, what was done to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from games.match import Result
from games.tribes import rules
from games.tribes.settings import ARCHETYPE, domain_of
from games.tribes.world import RIVAL_OF, Battles, Tribes, Turn
from schemas.events import Decision, EpisodeEnd, Outcome, Snapshot

GAME = "tribes"
TURN_MS: Final = 1
"""What a turn brings is told as of so long after its decisions, however long the turn really took:
a horizon of this length holds one turn and nothing else, at any pace."""
TOLD: Final = ("points", "lead", "rank")
"""Of where a tribe stands, what every turn's end tells."""


class Seat(NamedTuple):
    """A tribe of ours: where it sits and what it is called."""

    world: int
    tribe: int
    name: str
    """Of the world."""
    episode: str

    def actor(self, tribe: int) -> str:
        """Return the actor id of a tribe of the same world."""
        return f"{self.name}/{tribe}"

    def decision_id(self, turn: int) -> str:
        """Return the id of our decision of a turn."""
        return f"{self.episode}-{turn}"


class Chosen(NamedTuple):
    """Our decision in a world."""

    observation: NDArray[np.float32]
    legal: NDArray[np.bool_]
    action: int
    propensity: float
    probabilities: NDArray[np.float32]
    explored: bool
    version: str


Standings = dict[str, list[list[float]]]
"""By fact, then world, then tribe."""


def standings(tribes: Tribes) -> Standings:
    """Return where every tribe stands, taken once for all that a turn tells."""
    points = tribes.points
    columns = {
        "points": points,
        "lead": points - points[:, RIVAL_OF].max(axis=2),
        "rank": tribes.rank.astype(np.float64),
        "villages": tribes.villages,
        "production": tribes.production,
        "resources": tribes.resources,
        "army": tribes.army,
    }
    return {name: column.tolist() for name, column in columns.items()}


def standing(table: Standings, seat: Seat) -> dict[str, float]:
    """Return where a tribe stands."""
    return {name: rows[seat.world][seat.tribe] for name, rows in table.items()}


def decided(tribes: Tribes, table: Standings, seat: Seat, chosen: Chosen, now_ms: int) -> Decision:
    """Return the decision, before its turn is taken."""
    turn = int(tribes.turn[seat.world])
    action = chosen.action
    rival = None
    if action >= rules.ATTACK:
        rival = RIVAL_OF[seat.tribe, (action - rules.ATTACK) % rules.RIVALS]
    return Decision(
        decision_id=seat.decision_id(turn),
        game=GAME,
        world=seat.name,
        episode=seat.episode,
        actor_id=seat.actor(seat.tribe),
        archetype=ARCHETYPE,
        domain=domain_of(action),
        event_time_ms=now_ms,
        step=turn,
        observation=chosen.observation.tobytes(),
        legal=chosen.legal.tobytes(),
        action=action,
        propensity=chosen.propensity,
        probabilities=chosen.probabilities.tobytes(),
        policy_version=chosen.version,
        explored=chosen.explored,
        opponent_id=None if rival is None else seat.actor(int(rival)),
        facts=standing(table, seat),
        game_time=float(turn),
        action_type=rules.ACTION_NAMES[action].partition("_")[0],
    )


def at_once(
    tribes: Tribes, table: Standings, seat: Seat, action: int, turn: Turn, now_ms: int
) -> Outcome | Snapshot:
    """Return the outcome of the turn's decision, with where the tribe stands after it.

    A march is yet to arrive, so that its turn tells the standing alone.
    """
    w, a = seat.world, seat.tribe
    after = {name: table[name][w][a] for name in TOLD}
    if rules.ATTACK <= action < rules.TRADE:
        actor = seat.actor(seat.tribe)
        return Snapshot(game=GAME, actor_id=actor, event_time_ms=now_ms, facts=after)
    if action >= rules.TRADE:
        accepted, stronger = bool(turn.accepted[w, a]), bool(turn.strategic[w, a])
        facts = {
            "accepted": float(accepted),
            "refused": float(not accepted),
            "trust_change": float(turn.trust_change[w, a]),
            "strategic_high": float(stronger),
            "strategic_low": float(not stronger),
            **after,
        }
        return _outcome(seat, int(tribes.turn[w]) - 1, facts, accepted, now_ms)
    facts = {
        "production_before": float(turn.production_before[w, a]),
        "production_after": float(turn.production_after[w, a]),
        "resources_wasted": float(turn.wasted[w, a]),
        "queue_uptime": float(tribes.built_turns[w, a] / tribes.turn[w]),
        **after,
    }
    return _outcome(seat, int(tribes.turn[w]) - 1, facts, None, now_ms)


def arrived(
    seat: Seat, battles: Battles, expected: dict[str, bool], now_ms: int
) -> Iterator[Outcome]:
    """Yield what came of our marches that met the enemy in this turn."""
    ours = (battles.world == seat.world) & (battles.attacker == seat.tribe)
    for k in np.flatnonzero(ours).tolist():
        won = bool(battles.won[k])
        turn = int(battles.sent_turn[k])
        facts = {
            "victory": float(won),
            "defeat": float(not won),
            "enemy_casualties": float(battles.defender_losses[k]),
            "own_casualties": float(battles.attacker_losses[k]),
            "resources_gained": float(battles.loot[k]),
            "prediction_correct": float(expected.pop(seat.decision_id(turn), won) == won),
            "captured": float(battles.captured[k]),
        }
        yield _outcome(seat, turn, facts, won, now_ms)


def suffered(table: Standings, seat: Seat, battles: Battles, now_ms: int) -> Iterator[Snapshot]:
    """Yield what others' marches did to us: who, and what was lost by it, in points."""
    theirs = (battles.world == seat.world) & (battles.defender == seat.tribe)
    for k in np.flatnonzero(theirs).tolist():
        lost = (
            rules.POINTS_ARMY * float(battles.defender_losses[k])
            + rules.POINTS_RESOURCES * float(battles.loot[k])
            + rules.POINTS_VILLAGE * float(battles.captured[k])
        )
        yield Snapshot(
            game=GAME,
            actor_id=seat.actor(seat.tribe),
            event_time_ms=now_ms,
            facts={"lost": lost, **standing(table, seat)},
            opponent_id=seat.actor(int(battles.attacker[k])),
        )


def ended(table: Standings, seat: Seat, result: Result, now_ms: int) -> EpisodeEnd:
    """Return the match's end."""
    return EpisodeEnd(
        game=GAME,
        world=seat.name,
        episode=seat.episode,
        actor_id=seat.actor(seat.tribe),
        event_time_ms=now_ms,
        terminated=True,
        truncated=False,
        result=result,
        facts=standing(table, seat),
    )


def _outcome(
    seat: Seat, turn: int, facts: dict[str, float], success: bool | None, now_ms: int
) -> Outcome:
    return Outcome(
        decision_id=seat.decision_id(turn),
        game=GAME,
        actor_id=seat.actor(seat.tribe),
        event_time_ms=now_ms,
        facts=facts,
        success=success,
    )


def result_of(points: NDArray[np.float64], tribe: int) -> Result:
    """Return how a match went for a tribe: won with the most points, drawn when it shares them."""
    best = points.max()
    if points[tribe] < best:
        return "lost"
    return "won" if (points == best).sum() == 1 else "draw"
