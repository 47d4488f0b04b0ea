"""What a backtest asks: which descriptions, over which decisions; it names its own folder."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal

import msgspec

from infra.times import parse_duration, show_duration
from schemas.errors import refuse, shown
from schemas.game import Domain, Game, parse_game

MAX_VARIANTS = 16
BEFORE = "before"
"""Name of the variant that is history folded again by the description as it is."""
DESCRIBED = "described"
_ID_CHARS = 12

Before = Literal["auto", "recorded", "refolded"]
Source = Literal["auto", "log", "archive"]
_FROM_FACTS = frozenset(
    {
        "reward",
        "default_reward",
        "aggregate",
        "long_term_weight",
        "standing_unit",
        "retaliation_weight",
    }
)
"""What can change of a domain while the facts of an archive still tell its rewards."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The changes as the command line gives them."""

    rewards: Sequence[str] = ()
    """`NAME@VERSION`, or `DOMAIN=NAME@VERSION`."""
    horizons: Sequence[str] = ()
    """`6h`, `1h,6h,24h` for several, `DOMAIN=6h` for one domain."""
    weights: Sequence[str] = ()
    """`0.5` or `DOMAIN=0.5`."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One description that history is scored by."""

    name: str
    game: Game


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """All that the answer depends on."""

    game: Game
    """The description as it is."""
    variants: list[Variant]
    from_ms: int | None = None
    to_ms: int | None = None
    source: Literal["log", "archive"]
    before: Literal["recorded", "refolded"]
    topic: str
    spans: Mapping[int, tuple[int, int]]
    """First and end offset by partition; of an archive, windows and 0."""
    read: str = ""
    """Digest of the windows that were read, of an archive."""

    @property
    def backtest_id(self) -> str:
        """Names the question: the same one always gets the same name."""
        document = msgspec.to_builtins(self, str_keys=True)
        data = msgspec.json.encode(document, order="deterministic")
        return f"{self.game.name}-{hashlib.blake2b(data).hexdigest()[:_ID_CHARS]}"


def make_variants(game: Game, changes: Changes) -> list[Variant]:
    """The descriptions that the changes make of a game: one for each set of horizons.

    Raises:
        SchemaError: a reward or domain is not described, a horizon has no standing to look at, or
            there are more than `MAX_VARIANTS`.
    """
    fixed: dict[str, dict[str, Any]] = {name: {} for name in game.domains}
    paid: dict[str, str] = {}
    for text in changes.rewards:
        reward = text.partition("=")[2] or text
        who = _archetypes_of_reward(game, text)
        paid |= dict.fromkeys(who, reward)
        for domain in [] if who else _domains_of_reward(game, text):
            fixed[domain]["reward"] = reward
    for text in changes.weights:
        domains, value = _weight(game, text)
        for domain in domains:
            fixed[domain]["long_term_weight"] = value
    choices = [_horizons(game, text) for text in _by_domain(changes.horizons)]
    combinations = list(product(*choices))
    if len(combinations) > MAX_VARIANTS:
        refuse("--horizon", f"at most {MAX_VARIANTS} sets of horizons", str(len(combinations)))
    names = [text for text in changes.rewards] + [f"weight={text}" for text in changes.weights]
    variants = []
    for combination in combinations:
        changed = {name: dict(of) for name, of in fixed.items()}
        for _, horizons in combination:
            for domain, horizon_ms in horizons.items():
                changed[domain]["horizon_ms"] = horizon_ms
        name = "+".join([*names, *(label for label, _ in combination)]) or DESCRIBED
        variants.append(Variant(name=name, game=_changed(game, changed, paid)))
    if len({v.name for v in variants}) < len(variants):
        refuse("--horizon", "given once each", ", ".join(v.name for v in variants))
    return variants


def needs_log(old: Game, new: Game) -> str | None:
    """What of a changed description the facts in an archive cannot tell; None for nothing."""
    for name, domain in old.domains.items():
        after = new.domains.get(name)
        if after is None:
            return f"domain {name}"
        for field in Domain.__struct_fields__:
            if field not in _FROM_FACTS and getattr(domain, field) != getattr(after, field):
                return f"{field} of {name}"
    return None


def check_same_game(old: Game, new: Game, option: str) -> None:
    """Makes sure that a description is of the same game with the same vectors.

    Raises:
        SchemaError: it is not.
    """
    if new.name != old.name:
        refuse(option, f"a description of {old.name}", f"one of {new.name}")
    for what, was, got in [
        ("observation.shape", old.observation.size, new.observation.size),
        ("actions.names", old.actions.n, new.actions.n),
    ]:
        if was != got:
            refuse(option, f"a description with {what} of size {was}", str(got))


def _changed(game: Game, changes: Mapping[str, Mapping[str, Any]], paid: Mapping[str, str]) -> Game:
    domains = {
        name: msgspec.structs.replace(domain, **changes[name])
        for name, domain in game.domains.items()
    }
    archetypes = {
        name: msgspec.structs.replace(archetype, reward=paid.get(name, archetype.reward))
        for name, archetype in game.archetypes.items()
    }
    changed = msgspec.structs.replace(game, domains=domains, archetypes=archetypes)
    return parse_game(msgspec.to_builtins(changed))  # as if it were loaded: every rule is checked


def _archetypes_of_reward(game: Game, text: str) -> list[str]:
    """The archetypes with rewards of their own that a reward is meant for; none: it is a domain's.

    They are named, or paid by another version of the same reward.
    """
    left, equals, right = text.partition("=")
    own = {name: a.reward for name, a in game.archetypes.items() if a.reward is not None}
    if (right if equals else left) not in game.rewards:
        return []
    if equals:
        return [left] if left in own else []
    kind = left.partition("@")[0]
    return [name for name, reward in own.items() if reward.partition("@")[0] == kind]


def _domains_of_reward(game: Game, text: str) -> list[str]:
    left, equals, right = text.partition("=")
    reward = right if equals else left
    if reward not in game.rewards:
        known = ", ".join(sorted(game.rewards))
        refuse("--reward", f"one of {known}", shown(reward), "describe it in the game's file")
    if equals:
        return [_domain(game, "--reward", left)]
    kind = reward.partition("@")[0]
    found = [n for n, d in game.domains.items() if d.reward.partition("@")[0] == kind]
    if not found and len(game.domains) == 1:
        found = list(game.domains)
    if not found:
        known = ", ".join(f"{name}={reward}" for name in game.domains)
        refuse("--reward", f"DOMAIN=REWARD where no domain has a {kind} yet ({known})", shown(text))
    return found


def _by_domain(texts: Sequence[str]) -> list[str]:
    """Options of one domain, or of all, joined to one: each is a horizon to try."""
    found: dict[str, list[str]] = {}
    for text in texts:
        left, equals, right = text.rpartition("=")
        found.setdefault(left + equals, []).append(right)
    return [left + ",".join(parts) for left, parts in found.items()]


def _horizons(game: Game, text: str) -> list[tuple[str, dict[str, int]]]:
    """The horizons to try, each with its label: horizon by domain."""
    left, equals, right = text.partition("=")
    if equals:
        domains = [_domain(game, "--horizon", left)]
    else:
        domains = [name for name, domain in game.domains.items() if domain.standing]
    found = []
    for part in (right if equals else left).split(","):
        horizon_ms = parse_duration(part.strip(), "--horizon")
        named = domains if horizon_ms or equals else list(game.domains)
        bare = [name for name in named if horizon_ms and not game.domains[name].standing]
        if bare or not named:
            known = ", ".join(bare or game.domains)
            rule = "0 for a domain without a standing, whose change it would reward"
            refuse("--horizon", rule, shown(text), f"give domain {known} a standing")
        label = (f"{left}=" if equals else "") + show_duration(horizon_ms)
        found.append((label, dict.fromkeys(named, horizon_ms)))
    return found


def _weight(game: Game, text: str) -> tuple[list[str], float]:
    left, equals, right = text.partition("=")
    try:
        value = float(right if equals else left)
    except ValueError:
        refuse("--weight", "a number of 0 or more, or DOMAIN=NUMBER", shown(text))
    if not 0 <= value < float("inf"):
        refuse("--weight", "a number of 0 or more, or DOMAIN=NUMBER", shown(text))
    return [_domain(game, "--weight", left)] if equals else list(game.domains), value


def _domain(game: Game, option: str, name: str) -> str:
    if name not in game.domains:
        known = ", ".join(sorted(game.domains))
        refuse(option, f"of one of the domains {known}", shown(name))
    return name
