"""What an actor's account remembers of its settled decisions."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agents.rewards.account import RECENT, Actor

IDS = st.text(alphabet="\0\1\2+-a", min_size=1, max_size=4)


@given(st.lists(st.tuples(IDS, st.booleans()), max_size=3 * RECENT, unique_by=lambda s: s[0]), IDS)
def test_the_latest_settled_decisions_are_known_by_any_id(
    settled: list[tuple[str, bool]], other: str
) -> None:
    actor = Actor()
    for decision_id, had_outcome in settled:
        actor.note_settled(decision_id, had_outcome)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(actor), type=Actor)
    latest = dict(settled[-RECENT:])
    for decision_id in [*dict(settled), other]:
        assert kept.was_settled(decision_id) is latest.get(decision_id)
