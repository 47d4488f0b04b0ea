"""What an actor's account remembers of its open decisions and of the settled ones."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agents.rewards.account import RECENT, Actor, Open

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


@given(st.lists(IDS, min_size=1, max_size=8, unique=True), st.data())
def test_an_open_decision_is_decoded_when_asked_for_and_leaves_the_others(
    ids: list[str], data: st.DataObject
) -> None:
    actor = Actor()
    for i, decision_id in enumerate(ids):
        actor.add(Open(i, "game", "domain", decision_id, "episode"))
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(actor), type=Actor)
    chosen = data.draw(st.sampled_from(ids))
    found = read.find(chosen)
    assert found == actor.find(chosen)
    assert read.find(chosen + "other") is None
    assert found is not None
    found.successor = "next"  # what is changed is kept
    older = read.remove(found)
    assert [e.decision_id for e in older] == ids[: ids.index(chosen)]
    read.add(found)
    left = [i for i in ids if i != chosen]
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(read), type=Actor)
    assert [e.decision_id for e in again.opened()] == again.ids == [*left, chosen]
    assert again.latest("episode") == found
