"""Decoding: packs by `schemas.codec` against single events by ``faust.Record``.

    python -m benchmarks.stream_decode [--json]

The same decisions and outcomes, told once as Grindstone's packs and once as Faust's JSON records,
with every field typed in both. Both sides are timed in turn, by CPU time; the medians are printed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import faust
import msgspec

from benchmarks.stream_rewards import PACK_EVENTS, Teller
from schemas.codec import decode_record, encode_pack
from schemas.events import Decision, Event

N_EVENTS = 256 * 40
ROUNDS = 3


class FaustDecision(faust.Record, serializer="json"):
    """A decision as Faust's manual would have it."""

    type: str
    decision_id: str
    game: str
    world: str
    episode: str
    actor_id: str
    archetype: str
    domain: str
    event_time_ms: int
    step: int
    observation: list[float]
    action: int
    propensity: float
    policy_version: str


class FaustOutcome(faust.Record, serializer="json"):
    """An outcome as Faust's manual would have it."""

    type: str
    decision_id: str
    game: str
    actor_id: str
    event_time_ms: int
    facts: dict[str, float]
    success: bool


def peer_events(n: int, seed: int = 7) -> list[dict[str, Any]]:
    """Return events like the peers': decisions of 16 floats, each followed by its outcome."""
    rng = random.Random(seed)
    events: list[dict[str, Any]] = []
    for i in range(n // 2):
        who = {"decision_id": f"{rng.getrandbits(128):032x}", "actor_id": f"actor-{i % 500:06d}"}
        events.append(
            who
            | {
                "type": "decision",
                "event_time_ms": 1_760_000_000_000 + i,
                "archetype": "balanced",
                "domain": "battle",
                "observation": [round(rng.uniform(-1, 1), 5) for _ in range(16)],
                "action": rng.randrange(8),
                "propensity": 0.25,
                "policy_version": "battle-policy-0007",
            }
        )
        counts = {"enemy_casualties": 4, "own_casualties": 2, "resources_gained": 10}
        signs = {"won": True, "predicted_won": False}
        outcome = {"type": "outcome", "event_time_ms": 1_760_000_000_010 + i}
        events.append(who | outcome | counts | signs)
    return events


def faust_bytes(event: Event) -> bytes:
    """Return an event as a Faust application would write it: JSON with lists of numbers."""
    fields = {k: v for k, v in msgspec.structs.asdict(event).items() if v is not None}
    kept = FaustDecision if isinstance(event, Decision) else FaustOutcome
    fields["type"] = "decision" if kept is FaustDecision else "outcome"
    if isinstance(event, Decision):
        fields["observation"] = list(memoryview(fields["observation"]).cast("f"))
    return json.dumps({k: fields[k] for k in kept._options.fields}).encode()


def per_second(work: Callable[[], int]) -> float:
    """Return events per CPU second of one run."""
    begun = time.process_time()
    n = work()
    return n / (time.process_time() - begun)


def measure() -> dict[str, float]:
    """Return events per CPU second of both sides."""
    tell = Teller()
    events = [tell(e) for e in peer_events(N_EVENTS)]
    packs = [encode_pack(events[i : i + PACK_EVENTS]) for i in range(0, N_EVENTS, PACK_EVENTS)]
    singles = [(isinstance(e, Decision), faust_bytes(e)) for e in events]

    def ours() -> int:
        return sum(len(decode_record(pack)) for pack in packs for _ in range(10))

    def theirs() -> int:
        for is_decision, value in singles:
            (FaustDecision if is_decision else FaustOutcome).loads(value)
        return len(singles)

    both = [(per_second(ours), per_second(theirs)) for _ in range(ROUNDS)]
    return {
        "decode packs": round(median(a for a, _ in both)),
        "decode faust.Record": round(median(b for _, b in both)),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure()
    if options.json:
        print(json.dumps({"rows": rows}))
    else:
        for name, figure in rows.items():
            print(f"{name}: {figure:,.0f} events per CPU s")
        print(f"ratio: {rows['decode packs'] / rows['decode faust.Record']:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
