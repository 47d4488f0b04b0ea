"""How much one actor's account may hold, so that no actor can stop its partition.

A state larger than the engine's limit ends the process, and each that takes the partition over.
So a decision that would make an account too large is refused instead, and the next one that fits is
taken. What an event adds is bounded from above; only when the bounds have used the room up is the
account measured. All of it is kept in the account: the batches do not matter, nor does a take-over.
"""

from __future__ import annotations

import msgspec

from agents.rewards.account import Actor
from schemas.errors import refuse
from schemas.events import Decision, EpisodeEnd, Outcome, Snapshot

MAX_ACCOUNT_BYTES = 500_000
"""For what can wait: decisions and standings. Some 5,000 decisions that are open at a time."""
MAX_TOLD_BYTES = 800_000
"""For outcomes and ends, which let decisions settle; below the engine's ``max_state_bytes``."""

_ENTRY_BYTES = 128
"""Numbers, flags and digest of a decision, or of an event's other traces."""

_encode = msgspec.msgpack.Encoder().encode


def make_room(actor: Actor, event: Outcome | Snapshot | EpisodeEnd) -> None:
    """Take what an event may add from the room that its actor's account has left.

    Raises:
        SchemaError: there is not so much left.
    """
    added = len(_encode(event)) + _ENTRY_BYTES  # it may add much less
    if added <= actor.room:
        actor.room -= added
    else:
        _measure(actor, added, waits=isinstance(event, Snapshot))


def make_room_for(actor: Actor, event: Decision) -> None:
    """Do the same for a decision, whose own bytes are kept apart.

    Raises:
        SchemaError: there is not so much left.
    """
    opponent = event.opponent_id
    ids = len(event.decision_id) if opponent is None else len(event.decision_id) + len(opponent)
    added = 4 * 3 * ids + 4 * len(event.episode) + _ENTRY_BYTES
    if added <= actor.room:
        actor.room -= added
    else:
        _measure(actor, added, waits=True)


def _measure(actor: Actor, added: int, *, waits: bool) -> None:
    size = len(_encode(actor))
    limit = MAX_ACCOUNT_BYTES if waits else MAX_TOLD_BYTES
    if size + added > limit:
        actor.room = 0
        refuse(
            "$.actor_id",
            f"of an actor whose account stays within {limit:,} bytes",
            f"{size:,} bytes, {len(actor.open):,} open decisions among them, and {added:,} more",
            "shorten the horizon, or give each character an id of its own",
        )
    actor.room = max(0, MAX_ACCOUNT_BYTES - size - added)
