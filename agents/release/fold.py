"""The release: a fold of `models` that turns evaluations into champions and rejections.

It reads the topic it writes to; its own events and those of processes it has nothing to say on
pass through without effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from agents.release.rules import judge
from schemas.game import Game
from schemas.model_events import (
    Champion,
    Evaluation,
    ModelEvent,
    Registered,
    Rejected,
    decode_model_event,
    encode_model_event,
)
from schemas.records import MAX_RAW_BYTES, DeadLetter, Origin, WindowFile, encode_dead_letter
from schemas.topics import Topics
from streams.engine.records import Effects, Output, Record

MAX_JUDGED = 256
"""Verdicts that are remembered a model: learners repeat their last versions after a restart, and a
state that holds all of them would outgrow Kafka's largest record within months."""


class Candidate(msgspec.Struct, array_like=True):
    """A registered version that is not judged yet."""

    folder: str
    files: list[WindowFile]


class Standing(msgspec.Struct, array_like=True):
    """What the release knows of one model."""

    champion: str | None = None
    candidates: dict[str, Candidate] = {}
    judged: dict[str, bool] = {}
    """The last `MAX_JUDGED` versions judged and whether they passed; repeats change nothing."""

    def knows(self, version: str) -> bool:
        """Whether a version has its verdict."""
        return version in self.judged or version == self.champion

    def remember(self, version: str, passed: bool) -> None:
        """Note a verdict and forget the oldest."""
        self.judged[version] = passed
        while len(self.judged) > MAX_JUDGED:
            del self.judged[next(iter(self.judged))]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Standing).decode


class ReleaseFold:
    """The rule of one partition of `models`; see the module."""

    def __init__(
        self,
        partition: int,
        table: Mapping[bytes, bytes],
        games: Mapping[str, Game],
        topics: Topics,
    ) -> None:
        """Take over a partition with its recovered table."""
        self._partition = partition
        self._table = table
        self._games = games
        self._served = {a.model for game in games.values() for a in game.archetypes.values()}
        self._topics = topics

    def fold(self, records: Sequence[Record]) -> Effects:
        """Return verdicts, dead letters and changed states of these records."""
        known: dict[str, Standing] = {}
        outputs: list[Output] = []
        for record in records:
            try:
                event = decode_model_event(record.value or b"")
            except msgspec.MsgspecError as error:
                reason = f"$ must be a model event; got {error}"
                outputs.append(self._dead(record, reason))
                continue
            if isinstance(event, Registered) and event.model not in self._served:
                continue  # nobody plays it, so nobody evaluates it: it would be kept for ever
            if isinstance(event, Registered | Evaluation):
                outputs += self._take(event, record, known)
        return Effects(
            outputs=outputs, states={model.encode(): _encode(s) for model, s in known.items()}
        )

    def _take(
        self, event: Registered | Evaluation, record: Record, known: dict[str, Standing]
    ) -> list[Output]:
        if event.model not in known:
            raw = self._table.get(event.model.encode())
            known[event.model] = Standing() if raw is None else _decode(raw)
        standing = known[event.model]
        if isinstance(event, Registered):
            if not standing.knows(event.version):
                standing.candidates[event.version] = Candidate(event.folder, event.files)
            return []
        if standing.knows(event.version):
            return []
        candidate = standing.candidates.pop(event.version, None)
        game = self._games.get(event.game)
        if candidate is None or game is None:
            what = "$.version must be a registered one" if game else "$.game must be a known one"
            got = event.version if game else event.game
            return [self._dead(record, f"{what}; got {got!r}")]
        verdict = self._judge(event, candidate, standing, game, record)
        return [Output(self._topics.models, encode_model_event(verdict), event.model.encode())]

    def _judge(
        self,
        event: Evaluation,
        candidate: Candidate,
        standing: Standing,
        game: Game,
        record: Record,
    ) -> ModelEvent:
        origin = Origin(self._partition, record.offset, 0)
        verdict = judge(game.gate, event.version, standing.champion, event.matches)
        passed = verdict.passed and event.error is None
        reasons = verdict.reasons if event.error is None else [f"not playable: {event.error}"]
        standing.remember(event.version, passed)
        if not passed:
            return Rejected(
                model=event.model,
                version=event.version,
                time_ms=record.timestamp,
                origin=origin,
                reasons=reasons,
                win_rate=verdict.win_rate,
                lower95=verdict.lower95,
                n=verdict.n,
            )
        previous, standing.champion = standing.champion, event.version
        return Champion(
            model=event.model,
            version=event.version,
            time_ms=record.timestamp,
            origin=origin,
            previous=previous,
            reasons=reasons,
            folder=candidate.folder,
            files=candidate.files,
            win_rate=verdict.win_rate,
            lower95=verdict.lower95,
            n=verdict.n,
        )

    def _dead(self, record: Record, reason: str) -> Output:
        raw = record.value or b""
        letter = DeadLetter(
            topic=self._topics.models,
            partition=record.partition,
            offset=record.offset,
            index=0,
            reason=reason,
            path=reason.split(" ", 1)[0],
            time_ms=record.timestamp,
            raw=raw[:MAX_RAW_BYTES],
            n_bytes=len(raw),
        )
        return Output(self._topics.dead_letters, encode_dead_letter(letter), letter.topic.encode())
