"""Which rows are wanted: by time, game, archetype, actor, domain, policy version and type."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.events import Decision, Outcome

_TIMES = ("event_time_ms", "decision_time_ms", "watermark_ms", "min_time_ms", "time_ms")
"""Fields that say when a row is from, by the kinds of rows there are."""
_FIELDS = {
    "games": "game",
    "archetypes": "archetype",
    "actors": "actor_id",
    "domains": "domain",
    "policies": "policy_version",
}


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted; an empty set asks for nothing in particular.

    A row without a field that is asked for is not wanted, but for an outcome: it goes with its
    decision.
    """

    from_ms: int | None = None
    """Event time of the first row wanted; that of the decision for experience."""
    to_ms: int | None = None
    """Event time that is too late."""
    games: frozenset[str] = frozenset()
    archetypes: frozenset[str] = frozenset()
    actors: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    """Type and version, e.g. ``decision.v2``, or the type alone."""

    def picker(self) -> Picker:
        """Return a filter that remembers which decisions it let through."""
        return Picker(self)


class Picker:
    """Says of row after row of one partition whether it is wanted."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._wanted = [
            (field, values)
            for name, field in _FIELDS.items()
            if (values := getattr(selection, name))
        ]
        # What an outcome says of itself; for the rest its decision speaks.
        self._of_decision = [f for f, _ in self._wanted if f not in Outcome.__struct_fields__]
        self._decisions: set[str] = set()

    def wants(self, row: Any) -> bool:
        """Whether a row is wanted."""
        if self._of_decision and isinstance(row, Outcome):
            return row.decision_id in self._decisions and self._fits(row)
        for field, values in self._wanted:
            if getattr(row, field, None) not in values:
                return False
        if self._of_decision and isinstance(row, Decision):
            self._decisions.add(row.decision_id)
        return self._fits(row)

    def _fits(self, row: Any) -> bool:
        selection = self._selection
        if selection.types:
            tag = tag_of(row)
            if tag not in selection.types and tag.partition(".")[0] not in selection.types:
                return False
        if selection.from_ms is None and selection.to_ms is None:
            return True
        time_ms = time_of(row)
        if time_ms is None:
            return False
        after = selection.from_ms is None or time_ms >= selection.from_ms
        return after and (selection.to_ms is None or time_ms < selection.to_ms)


def time_of(row: Any) -> int | None:
    """Return when a row is from, in UTC milliseconds; None for one that does not say."""
    for name in _TIMES:
        found = getattr(row, name, None)
        if found is not None:
            return int(found)
    return None


def tag_of(row: Any) -> str:
    """Return the type and version of a row."""
    return str(type(row).__struct_config__.tag)
