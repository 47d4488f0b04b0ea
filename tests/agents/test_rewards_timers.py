"""Timers beside the plainest thing that keeps their order."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import example, given

from agents.rewards.timers import NEVER, Timers

moves = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "cancel", "pop"]),
        st.integers(0, 5),  # few times, so that some have several timers
        st.sampled_from(["a", "b"]),
        st.integers(0, 9).map(str),
    ),
    max_size=60,
)


@given(moves, st.integers(0, 20))
@example(
    [("set", 0, "a", "0"), ("set", 0, "a", "0"), ("pop", 0, "a", "0"), ("cancel", 0, "a", "0")], 0
)
def test_timers_come_in_the_order_of_time_actor_and_decision(
    plan: list[tuple[str, int, str, str]], n_given: int
) -> None:
    given_ = [(due, (actor, name)) for _, due, actor, name in plan[:n_given]]
    timers, waiting = Timers(given_), sorted(given_)
    for move, due, actor, name in plan[n_given:]:
        named = (actor, name)
        if move == "set":
            timers.set(due, named)
            waiting = sorted([*waiting, (due, named)])
        elif move == "cancel":
            timers.cancel(due, named)
            if [w for w in waiting if w[0] == due] == [(due, named)]:
                waiting.remove((due, named))
        elif timers.next_ms < NEVER:
            at, popped = timers.next_ms, timers.pop()
            if popped is not None:
                assert (at, popped) == waiting.pop(0)
    while timers.next_ms < NEVER:
        at, popped = timers.next_ms, timers.pop()
        if popped is not None:
            assert (at, popped) == waiting.pop(0)
    assert waiting == []
