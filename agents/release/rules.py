"""The gate: what a candidate's matches must show before games play it.

Each stage is judged on seeds of its own. The confirming stage alone gives the figures that are
published: the stage that chose a candidate flatters it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.evidence import paired_gain, wilson
from schemas.game import Gate
from schemas.model_events import MatchUp

SCRIPTED = "scripted"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a candidate passes, why, and the win rate that may be quoted."""

    passed: bool
    reasons: list[str]
    win_rate: float
    lower95: float
    n: int


def judge(gate: Gate, version: str, champion: str | None, matches: Sequence[MatchUp]) -> Verdict:
    """Return the verdict on a candidate, with the figures of the last stage it played."""
    reasons: list[str] = []
    rate, lower, n, passed = 0.0, 0.0, 0, True
    for stage, wanted in (("gate", gate.matches), ("confirm", gate.confirm_matches)):
        own = _find(matches, stage, version)
        if own is None or own.n < wanted:
            played = 0 if own is None else own.n
            reasons.append(f"{stage}: {played} of {wanted} matches played")
            passed = False
            if own is None:
                break
        rate, lower, n = own.wins / own.n, wilson(own.wins, own.n)[0], own.n
        good = lower >= gate.min_lower95
        sign = ">=" if good else "<"
        reasons.append(
            f"{stage}: won {own.wins} of {own.n} against {SCRIPTED}, lower 95 % bound "
            f"{lower:.3f} {sign} {gate.min_lower95:.3f}"
        )
        passed = passed and good
        if champion is not None:
            gains, note = _gains(gate, stage, own, _find(matches, stage, champion))
            reasons.append(note)
            passed = passed and gains
        if not passed:
            break
    return Verdict(passed=passed, reasons=reasons, win_rate=rate, lower95=lower, n=n)


def _find(matches: Sequence[MatchUp], stage: str, subject: str) -> MatchUp | None:
    for match in matches:
        if (match.stage, match.subject, match.opponent) == (stage, subject, SCRIPTED) and match.n:
            return match
    return None


def _gains(gate: Gate, stage: str, own: MatchUp, theirs: MatchUp | None) -> tuple[bool, str]:
    if theirs is None or theirs.seeds != own.seeds:
        return False, f"{stage}: the champion was not played on the same seeds"
    n = min(len(own.outcomes), len(theirs.outcomes)) // 2 * 2
    mean, lower = paired_gain(own.outcomes[:n], theirs.outcomes[:n], gate.confidence)
    good = lower > gate.min_gain
    sign = ">" if good else "<="
    return good, (
        f"{stage}: gain on champion {theirs.subject} {mean:+.3f}, lower {gate.confidence:.0%} "
        f"bound {lower:+.3f} {sign} {gate.min_gain:+.3f} on the same seeds"
    )
