"""Old versions of events, lifted step by step to the current layout.

A step takes the plain dict of one version and returns the dict of the next. The log keeps the old
bytes; only what is read is lifted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from schemas.errors import refuse, shown

Document = dict[str, Any]


def _outcome_v1_to_v2(old: Document) -> Document:
    """Version 1 had one flag ``done``: the episode ended in the game, not by a limit."""
    new = dict(old)
    done = new.pop("done", False)
    if not isinstance(done, bool):
        refuse("$.done", "bool", shown(done))
    return new | {"type": "outcome.v2", "terminated": done, "truncated": False}


def _retagged(tag: str) -> Callable[[Document], Document]:
    """Return a step to a version that only has more optional fields."""
    return lambda old: old | {"type": tag}


STEPS: Mapping[str, Callable[[Document], Document]] = {
    "decision.v1": _retagged("decision.v2"),
    "outcome.v1": _outcome_v1_to_v2,
    "outcome.v2": _retagged("outcome.v3"),
    "snapshot.v1": _retagged("snapshot.v2"),
}
"""By the tag they take; the tag of what they return is in the document."""

CURRENT = frozenset({"decision.v2", "outcome.v3", "snapshot.v2", "episode_end.v1", "tick.v1"})


def upcast(document: Document) -> Document:
    """Return a document in its current version.

    Raises:
        SchemaError: the type is missing, unknown, or of a version this code does not know.
    """
    tag = document.get("type")
    while tag not in CURRENT:
        step = STEPS.get(tag) if isinstance(tag, str) else None
        if step is None:
            known = ", ".join(sorted(CURRENT | set(STEPS)))
            got = "nothing" if tag is None else shown(tag)
            refuse("$.type", f"one of {known}", got)
        document = step(document)
        tag = document["type"]
    return document
