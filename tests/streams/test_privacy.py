"""Pseudonyms, sealed text and the key store: what holds, what is refused, what erasing does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.codec import decode_record, encode_event
from schemas.errors import SchemaError
from schemas.events import Decision, EpisodeEnd, Language, Outcome, Snapshot
from schemas.limits import MAX_DETAIL_CHARS
from schemas.privacy import ERASED, SEALED_PREFIX, UNREADABLE, WITHHELD, is_pseudonym
from schemas.topics import Topics
from streams.privacy import Ingress, KeyStore, PrivacyError, Pseudonymiser, Revealer
from streams.privacy.ingress import N_REMEMBERED
from streams.privacy.master import MASTER_FILE
from streams.privacy.seal import Place, cipher_of, players_of, seal, unseal
from streams.privacy.store import POLL_S, STORE_FILE
from streams.writer import EventWriter
from tests.agents.log import decision, outcome, snapshot

KEY, OTHER = bytes(32), bytes([1]) * 32
PREFIX, NAME, TEXT = "player:", "player:Ada-Lovelace", "Give me the bridge, I said"
BARE = NAME.removeprefix(PREFIX)
ids = st.text(min_size=1, max_size=40)
players = st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True).map(
    lambda numbers: tuple(f"p_{n:032x}" for n in numbers)
)


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KeyStore]:
    with KeyStore.create(tmp_path / "keys") as made:
        yield made


def told(**more: Any) -> Decision:
    """A decision against a player, with text."""
    language = Language(prompt_type="taunt", prompt=TEXT, response="no", reasoning="")
    details = {"said": TEXT, "gold": 5, "angry": True}
    given: dict[str, Any] = {"opponent_id": NAME, "language": language, "details": details} | more
    return decision(0, 1_000, **given)


@settings(deadline=None, max_examples=50)
@given(ids, ids)
def test_pseudonyms_are_stable_keyed_and_tell_players_apart(one: str, two: str) -> None:
    names = Pseudonymiser(KEY)
    assert is_pseudonym(names(one))
    assert names(one) == Pseudonymiser(KEY)(one) == names(names(one))
    assert (names(one) == names(two)) == (one == two)
    assert names(one) != Pseudonymiser(OTHER)(one)


def test_pseudonyms_do_not_collide_in_a_hundred_thousand() -> None:
    names = Pseudonymiser(KEY)
    assert len({names(str(n)) for n in range(100_000)}) == 100_000


def test_prefix_marks_players_and_is_not_part_of_them() -> None:
    names = Pseudonymiser(KEY, PREFIX)
    assert names("player:7") == names("7") == Pseudonymiser(KEY)("7")
    assert names.is_player("player:7")
    assert not names.is_player("7")
    assert not Pseudonymiser(KEY).is_player("player:7")
    disguised = f"player:{names('7')}"  # whoever is called like a pseudonym becomes nobody else
    assert names(disguised) != names("7")
    with pytest.raises(SchemaError, match="must be more than its prefix"):
        names("player:")


@settings(deadline=None, max_examples=50)
@given(st.text(), players, ids, ids)
def test_sealed_text_opens_at_its_place_with_all_keys_only(
    text: str, of: tuple[str, ...], decision_id: str, field: str
) -> None:
    keys = [bytes([n]) * 32 for n in range(len(of))]
    place, cipher = Place("duel", decision_id, field), cipher_of(keys)
    sealed = seal(cipher, of, place, text)
    assert sealed.startswith(SEALED_PREFIX)
    assert players_of(sealed) == of
    assert unseal(cipher, place, sealed) == text
    assert seal(cipher, of, place, text) != sealed
    for elsewhere in (
        msgspec.structs.replace(place, decision_id=decision_id + "x"),
        msgspec.structs.replace(place, field=field + "x"),
        msgspec.structs.replace(place, game="other"),
    ):
        with pytest.raises(PrivacyError, match="must be as it was sealed"):
            unseal(cipher, elsewhere, sealed)
    with pytest.raises(PrivacyError, match="with the same keys"):
        unseal(cipher_of([*keys[:-1], OTHER[::-1] + b"x"]), place, sealed)


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1, max_size=20), st.data())
def test_changed_text_is_refused(text: str, data: st.DataObject) -> None:
    place, of, cipher = Place("duel", "d", "f"), (f"p_{0:032x}",), cipher_of([KEY])
    sealed = seal(cipher, of, place, text)
    at = data.draw(st.integers(len(SEALED_PREFIX), len(sealed) - 3))
    letter = data.draw(st.sampled_from("AZaz09+/").filter(lambda c: c != sealed[at]))
    with pytest.raises(PrivacyError):
        unseal(cipher, place, sealed[:at] + letter + sealed[at + 1 :])


@pytest.mark.parametrize("text", ["", "plain", "enc:v1:", "enc:v1:AAAA", "enc:v1:no base64!"])
def test_what_is_not_sealed_is_refused(text: str) -> None:
    with pytest.raises(PrivacyError, match="sealed text must be enc:v1: and base64"):
        unseal(cipher_of([KEY]), Place("duel", "d", "f"), text)


def test_ingress_protects_every_field_and_reveal_gives_text_back(store: KeyStore) -> None:
    protect, reveal = Ingress(store, PREFIX), Revealer(store)
    name = store.pseudonymiser()(BARE)
    event = told(player_id=BARE, actor_id="npc")
    safe = protect(event)
    assert (safe.player_id, safe.opponent_id, safe.actor_id) == (name, name, "npc")
    data = encode_event(safe)
    assert BARE.encode() not in data
    assert TEXT.encode() not in data
    assert isinstance(decode_record(data)[0], Decision)
    assert safe.details is not None
    assert (safe.details["gold"], safe.details["angry"]) == (5, True)
    assert safe.language is not None
    assert safe.language.prompt_type == "taunt"
    clear = reveal(safe)
    assert (clear.language, clear.details) == (event.language, event.details)
    assert protect(told(opponent_id="npc-2")) == told(opponent_id="npc-2")

    acted = protect(outcome(0, 1_010, NAME, decision_id="d", details={"said": TEXT}))
    assert acted.actor_id == name
    assert reveal(acted).details == {"said": TEXT}
    shot = protect(msgspec.structs.replace(snapshot(1_020, 1.0, NAME), opponent_id=NAME))
    assert (shot.actor_id, shot.opponent_id) == (name, name)
    end = protect(
        EpisodeEnd(game="duel", world="w", episode="e", actor_id=NAME, event_time_ms=1,
                   terminated=True, truncated=False)
    )  # fmt: skip
    assert end.actor_id == name


def test_text_of_an_outcome_follows_the_players_of_its_decision(store: KeyStore) -> None:
    protect, reveal = Ingress(store, PREFIX), Revealer(store)
    protect(told())
    protect(decision(1, 1_000))
    mine = protect(outcome(0, 1_010, details={"said": TEXT, "n": 1}))
    assert mine.details is not None
    assert players_of(str(mine.details["said"])) == (store.pseudonymiser()(BARE),)
    assert reveal(mine).details == {"said": TEXT, "n": 1}
    assert protect(outcome(1, 1_010, details={"said": TEXT})).details == {"said": TEXT}
    unknown = protect(outcome(2, 1_010, details={"said": TEXT, "n": 1}))
    assert unknown.details == {"said": WITHHELD, "n": 1}
    for n in range(N_REMEMBERED):
        protect(decision(n + 3, 1_000))
    assert len(protect._players) == N_REMEMBERED


@pytest.mark.parametrize("field", ["decision_id", "world", "episode", "action_type", "arm"])
def test_ids_that_carry_a_player_past_the_pseudonym_are_refused(
    store: KeyStore, field: str
) -> None:
    event = msgspec.structs.replace(told(), **{field: f"x-{BARE}-1"})
    with pytest.raises(SchemaError) as caught:
        Ingress(store, PREFIX)(event)
    assert str(caught.value).startswith(f"$.{field} must be without the player's id")
    assert BARE not in str(caught.value)


def test_text_that_would_be_too_long_when_sealed_is_refused(store: KeyStore) -> None:
    protect = Ingress(store, PREFIX)
    fits = MAX_DETAIL_CHARS * 3 // 4 - 60
    data = encode_event(protect(told(details={"said": "x" * fits})))
    assert isinstance(decode_record(data)[0], Decision)
    with pytest.raises(SchemaError, match=r"\$.details.said must be text that has at most 2000"):
        protect(told(details={"said": "x" * (fits + 60)}))


def test_writer_without_protection_lets_no_player_through() -> None:
    writer = EventWriter(msgspec.UNSET, Topics())  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match=r"\$.player_id must be a pseudonym") as caught:
        writer.protected(told(player_id=BARE))
    assert BARE not in str(caught.value)
    event = told(player_id=Pseudonymiser(KEY)(BARE))
    assert writer.protected(event) is event


def test_erased_text_is_gone_and_new_text_is_not_taken(store: KeyStore) -> None:
    protect, reveal = Ingress(store, PREFIX), Revealer(store)
    name = store.pseudonymiser()(BARE)
    both = protect(told(player_id="Bob-the-2nd"))
    other = protect(told(player_id="Bob-the-2nd", opponent_id="npc"))
    assert store.erase(name) == "held"
    assert store.erase(name) == "erased"
    assert store.state(name) == "erased"
    assert reveal(both).details == {"said": ERASED, "gold": 5, "angry": True}
    assert reveal(other).details == told().details
    again = protect(told())
    assert again.details == {"said": ERASED, "gold": 5, "angry": True}
    assert again.opponent_id == name
    assert store.counts() == {"held": 1, "erased": 1}


def test_text_under_another_stores_keys_is_unreadable(store: KeyStore, tmp_path: Path) -> None:
    safe = Ingress(store, PREFIX)(told())
    with KeyStore.create(tmp_path / "other") as other:
        Ingress(other, PREFIX)(told())
        assert Revealer(other)(safe).details == {"said": UNREADABLE, "gold": 5, "angry": True}
        assert other.pseudonymiser()(BARE) != store.pseudonymiser()(BARE)


def test_writer_forgets_a_key_erased_elsewhere_within_the_bound(tmp_path: Path) -> None:
    clock = Hand()
    with KeyStore.create(tmp_path) as mine, KeyStore(tmp_path, clock=clock) as theirs:
        protect, name = Ingress(theirs, PREFIX), mine.pseudonymiser()(BARE)
        protect(told())
        mine.erase(name)
        clock.now = POLL_S * 0.9
        late = protect(told())
        assert Revealer(mine)(late).details == {"said": ERASED, "gold": 5, "angry": True}
        clock.now = POLL_S
        assert protect(told()).details == {"said": ERASED, "gold": 5, "angry": True}


def test_writers_and_erasures_at_a_time_bring_no_key_back(tmp_path: Path) -> None:
    KeyStore.create(tmp_path).close()
    n_players, failed = 12, []
    start = threading.Barrier(4)

    def write(clock: Callable[[], float]) -> None:
        with KeyStore(tmp_path, clock=clock) as keys:
            protect = Ingress(keys, PREFIX)
            start.wait()
            for n in range(20 * n_players):
                protect(told(opponent_id=f"{PREFIX}Ada-Lovelace-{n % n_players}"))

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failed.append(error)

        return run

    def erase() -> None:
        with KeyStore(tmp_path) as keys:
            start.wait()
            for n in range(n_players):
                keys.erase(keys.pseudonymiser()(f"Ada-Lovelace-{n}"))

    ticking = iter(range(10**9))
    works = [lambda: write(Hand()), lambda: write(lambda: float(next(ticking))), erase]
    threads = [threading.Thread(target=guarded(work)) for work in works]
    for thread in threads:
        thread.start()
    start.wait()
    for thread in threads:
        thread.join(60)
    assert failed == []
    with KeyStore(tmp_path) as keys:
        assert keys.counts() == {"held": 0, "erased": n_players}
        event = Ingress(keys, PREFIX)(told(opponent_id=f"{PREFIX}Ada-Lovelace-3"))
        assert event.details == {"said": ERASED, "gold": 5, "angry": True}


def test_store_and_files_hold_no_id_and_are_for_their_owner(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with KeyStore.create(folder) as keys:
        Ingress(keys, PREFIX)(told())
    master = (folder / MASTER_FILE).read_text().strip()
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert BARE.encode() not in path.read_bytes()
        assert path.name == MASTER_FILE or bytes.fromhex(master) not in path.read_bytes()
    assert folder.stat().st_mode & 0o077 == 0


def test_rotation_keeps_text_and_running_writers_and_shuts_old_copies(tmp_path: Path) -> None:
    folder, copy = tmp_path / "keys", tmp_path / "copy"
    with KeyStore.create(folder) as mine, KeyStore(folder) as running:
        safe = Ingress(mine, PREFIX)(told())
        copy.mkdir()
        (copy / STORE_FILE).write_bytes((folder / STORE_FILE).read_bytes())
        before = mine.master_id
        after = mine.rotate()
        assert after != before
        assert running.master_id == after
        assert Revealer(running)(safe).details == told().details
        Ingress(running, PREFIX)(told(opponent_id=f"{PREFIX}Grace-Hopper"))
    (copy / MASTER_FILE).write_bytes((folder / MASTER_FILE).read_bytes())
    (copy / MASTER_FILE).chmod(0o600)
    with pytest.raises(PrivacyError, match=f"must be {before}; got {after}"):
        KeyStore(copy)
    with KeyStore(folder) as again:
        assert Revealer(again)(safe).details == told().details


def test_master_key_may_be_given_and_is_never_shown(tmp_path: Path) -> None:
    key = "ab" * 32
    with KeyStore.create(tmp_path / "keys", key) as keys:
        assert not (tmp_path / "keys" / MASTER_FILE).exists()
        with pytest.raises(PrivacyError, match="must be in the store's file"):
            keys.rotate()
    KeyStore(tmp_path / "keys", key).close()
    for wrong in ("cd" * 32, "short-key"):
        with pytest.raises(PrivacyError, match="must be") as caught:
            KeyStore(tmp_path / "keys", wrong)
        assert wrong not in str(caught.value)


def test_store_that_is_missing_twice_or_open_to_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="grindstone keys init"):
        KeyStore(tmp_path)
    KeyStore.create(tmp_path).close()
    with pytest.raises(PrivacyError, match="must hold no keys yet"):
        KeyStore.create(tmp_path)
    (tmp_path / MASTER_FILE).chmod(0o640)
    with pytest.raises(PrivacyError, match="for its owner alone"):
        KeyStore(tmp_path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([told(), outcome(0, 1), snapshot(1, 1.0)]))
def test_events_without_players_stay_the_same_object(
    store: KeyStore, event: Decision | Outcome | Snapshot
) -> None:
    protect = Ingress(store, None)
    assert protect(event) is event
