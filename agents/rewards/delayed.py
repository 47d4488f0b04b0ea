"""Delayed reward of a decision: what became of the actor's standing within the horizon.

All of it is *as of* event times: nothing after decision time + horizon plays a part, and nothing
depends on when it is computed.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from agents.rewards.account import Actor, Decided, Open
from agents.rewards.facts import clip
from schemas.game import Domain


class Delayed(msgspec.Struct, frozen=True, gc=False):
    """What a domain's horizon brought."""

    value: float = 0.0
    """The long-term reward, in [-1, 1]."""
    before: float | None = None
    """Standing as of the decision."""
    after: float | None = None
    """Standing as of decision time + horizon."""
    credit: float | None = None
    """The decision's part of the standing's change; None where changes are paid in full."""
    retaliation: float | None = None


NOTHING = Delayed()


def delayed(actor: Actor, entry: Open, domain: Domain) -> Delayed:
    """Return the delayed reward of a decision whose horizon has passed.

    ``clip(change / standing_unit + retaliation_weight * retaliation)``, where the change is
    ``after - before`` or, discounted, the decision's share of each change (`shared_change`). A
    standing that is not known counts as unchanged.
    """
    end_ms = entry.time_ms + domain.horizon_ms
    value, before, after, credit = 0.0, None, None, None
    if domain.standing:
        before = actor.standing(domain.standing, entry.time_ms)
        after = actor.standing(domain.standing, end_ms)
        if domain.credit == "discounted":
            credit = shared_change(actor, entry, domain, before)
            value = credit / domain.standing_unit
        elif before is not None and after is not None:
            value = (after - before) / domain.standing_unit
    retaliation = None
    if domain.retaliation is not None and entry.opponent is not None:
        retaliation = retaliated(actor, entry, domain)
        if retaliation is not None:
            value += domain.retaliation_weight * retaliation
    return Delayed(clip(value), before, after, credit, retaliation)


def shared_change(actor: Actor, entry: Open, domain: Domain, before: float | None) -> float:
    """Return a decision's share of the standing's changes within its horizon.

    A change at time s is shared among the decisions of the actor and domain that were taken before
    s and at most the horizon earlier, the last one first: k decisions further back counts
    ``credit_discount ** k`` times as much. The shares of a change sum to the change, so that a gain
    is paid once, not to every action of the window. (An n-step return pays each of n actions
    nearly the whole of it.)
    """
    decided = actor.decided.get(entry.domain, [])
    mine = bisect_left(decided, (entry.time_ms, entry.decision_id))
    begin_ms, end_ms = entry.time_ms, entry.time_ms + domain.horizon_ms
    known = before
    total = 0.0
    for at_ms, name, value in actor.standings:
        if name != domain.standing or at_ms <= begin_ms:
            continue
        if at_ms > end_ms:
            break
        if known is not None and value != known:
            behind = bisect_left(decided, (at_ms,))
            first = bisect_left(decided, (at_ms - domain.horizon_ms,))
            total += (value - known) * _share(domain.credit_discount, behind - first, behind, mine)
        known = value
    return total


def _share(discount: float, n: int, behind: int, mine: int) -> float:
    """Return the weight of the decision at `mine` among the `n` before place `behind`."""
    if discount == 1:
        return 1.0 / n
    weight: float = discount ** (behind - 1 - mine) * (1 - discount) / (1 - discount**n)
    return weight


def retaliated(actor: Actor, entry: Open, domain: Domain) -> float | None:
    """Return what the decision's opponent did to the actor in answer to it; None for nothing.

    What an opponent does is charged to the last decision against that opponent before it, provided
    that it comes within that decision's horizon.
    """
    begin_ms, end_ms = entry.time_ms, entry.time_ms + domain.horizon_ms
    decided = actor.decided.get(entry.domain, [])
    found = None
    for at_ms, opponent, name, value in actor.hits:
        if at_ms <= begin_ms or opponent != entry.opponent or name != domain.retaliation:
            continue
        if at_ms > end_ms:
            break
        if _provoked(decided, entry, at_ms):
            found = (found or 0.0) + value
    return found


def _provoked(decided: list[Decided], entry: Open, at_ms: int) -> bool:
    """Whether the decision was the actor's last one against its opponent before a time."""
    for place in range(bisect_left(decided, (at_ms,)) - 1, -1, -1):
        _, decision_id, opponent = decided[place]
        if opponent == entry.opponent:
            return decision_id == entry.decision_id
    return False
