"""Erasing a player: what is listed, what stays, and that nothing tells who it was."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from agents.rewards.fold import RewardsFold
from infra.cli.common import Exit
from infra.erase import AUDIT_FILE, PLAYER_COLUMNS, versions_using, windows_of
from schemas.codec import encode_pack
from schemas.events import Language, Tick
from schemas.game import Game, parse_game
from schemas.kafka import KafkaSettings
from schemas.model_events import Registered, encode_model_event
from schemas.privacy import ERASED, SEALED_PREFIX
from schemas.topics import Topics
from streams.admin import ensure_topics
from streams.archive import read_archive
from streams.archiver.service import Archiver, ArchiverSettings
from streams.engine.records import Record
from streams.privacy import Ingress, KeyStore
from streams.reader import Span, read_records
from streams.writer import EventWriter
from tests.agents.log import decision, outcome
from tests.infra.lake import DUELS, START_MS, archive, fold, log_of
from tests.streams.streamkit import run_until

ADA, TEXT, PARTITIONS, N = "player:Ada-Lovelace", "Give me the bridge, said Ada", 2, 60
PRIVATE = '\n[privacy]\nplayer_prefix = "player:"\n[windows]\nmax_rows = 10\n'


def registered(version: str, spans: dict[str, tuple[int, int]], archetype: str) -> Registered:
    """A version that learned from these offsets."""
    return Registered(
        model=f"duel-{archetype}", version=version, time_ms=int(version), game="duel",
        archetype=archetype, algorithm="dqn", folder=f"duel-{archetype}/{version}", files=[],
        source_offsets=spans, n_windows=1, last_window="", n_rows=1, n_updates=1,
        reward_versions=[], seed=1, settings={}, settings_digest="", code_version="", metrics={},
    )  # fmt: skip


def described() -> Game:
    """The duel with players in it."""
    return parse_game(tomllib.loads(DUELS + PRIVATE))


@pytest.mark.parametrize("column", PLAYER_COLUMNS)
def test_windows_are_found_by_each_column(tmp_path: Path, column: str) -> None:
    name = "p_" + "0" * 32
    rows = fold(log_of(60), described())
    changed = [
        msgspec.structs.replace(row, **{column: name}) if i in (45, 46, 100) else row
        for i, row in enumerate(rows)
    ]
    archive(changed, described(), tmp_path)
    found = windows_of(tmp_path, name)
    held = [i for i in (45, 46, 100) if hasattr(rows[i], "decision_id")]
    assert sum(w.n_rows for w in found) == len(held)
    places = {place for w in found for place in w.places}
    assert places == {(rows[i].origin.partition, rows[i].origin.offset) for i in held}
    assert windows_of(tmp_path, "p_" + "1" * 32) == []
    assert windows_of(tmp_path / "nowhere", name) == []


def test_versions_are_those_whose_range_holds_a_row(tmp_path: Path) -> None:
    name = "p_" + "0" * 32
    rows = [
        msgspec.structs.replace(row, player_id=name) if hasattr(row, "player_id") else row
        for row in fold(log_of(20), described())
    ]
    archive(rows, described(), tmp_path)
    windows = windows_of(tmp_path, name)
    offsets = [offset for w in windows if w.archetype == "fighter" for _, offset in w.places]
    low, high = min(offsets), max(offsets)
    events = [
        registered("3", {"0": (low, high)}, "fighter"),
        registered("2", {"0": (high, high + 9), "7": (0, 9)}, "fighter"),
        registered("1", {"0": (high + 1, high + 9)}, "fighter"),
        registered("4", {"1": (low, high)}, "fighter"),
        registered("5", {"0": (low, high)}, "other"),
    ]
    found = versions_using(events, windows)
    assert [(use.version, use.n_rows) for use in found] == [
        ("2", offsets.count(high)),
        ("3", len(offsets)),
    ]


class World:
    """A broker with a log of duels against players, folded and archived, and a key store."""

    def __init__(self, folder: Path, broker: str, prefix: str) -> None:
        self.folder, self.data = folder, folder / "data"
        self.kafka, self.topics = KafkaSettings(bootstrap_servers=broker), Topics(prefix)
        self.game = described()
        (folder / "duel.toml").write_text(DUELS + PRIVATE)

    def command(self, *arguments: str, code: int = Exit.OK) -> Any:
        kept = {name: value for name, value in os.environ.items() if "GRINDSTONE" not in name}
        process = subprocess.run(
            [sys.executable, "-m", "infra.cli", *arguments, "--json"],
            cwd=self.folder,
            env={
                **kept,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "GRINDSTONE_DATA_DIR": str(self.data),
                "GRINDSTONE_GAME": str(self.folder / "duel.toml"),
                "GRINDSTONE_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
                "GRINDSTONE_TOPICS_PREFIX": self.topics.prefix,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert process.returncode == code, process.stderr
        assert "Traceback" not in process.stderr
        assert "Ada" not in process.stderr
        if not process.stdout:
            return process.stderr
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        return lines if arguments[0] == "tail" else lines[0]

    async def play(self) -> None:
        """Write the log through the writer, and what follows from it."""
        await ensure_topics(self.kafka, self.topics.specs(PARTITIONS))
        with KeyStore(self.data / "keys") as keys:
            protect = Ingress(keys, "player:")
            async with EventWriter(self.kafka, self.topics, protect=protect) as writer:
                for n in range(N):
                    foe = ADA if n % 6 == 0 else "player:Bob" if n % 6 == 1 else "npc-9"
                    at, actor = START_MS + n * 100, f"npc-{n % 3}"
                    said = Language(prompt=f"{TEXT} {n}", response=f"No, {foe}")
                    told: dict[str, Any] = {"decision_id": f"d{n}"}
                    mine: dict[str, Any] = {"opponent_id": foe}
                    if foe != "npc-9":
                        told["details"] = {"said": f"{TEXT} {n}"}
                        mine["language"] = said
                    await writer.send(decision(n, at, actor, **told, **mine))
                    await writer.send(outcome(n, at + 10, actor, **told))
        async with AIOKafkaProducer(**self.kafka.client()) as producer:
            late = encode_pack([Tick(event_time_ms=START_MS + 60_000, source="test")])
            for p in range(PARTITIONS):
                await producer.send_and_wait(self.topics.game_events, late, partition=p)
            for p in range(PARTITIONS):
                for value in await self._follows(p):
                    await producer.send_and_wait(self.topics.experiences, value, partition=p)
            whole = {str(p): (0, 10_000) for p in range(PARTITIONS)}
            for event in (registered("1", whole, "fighter"), registered("2", whole, "guard")):
                await producer.send_and_wait(self.topics.models, encode_model_event(event))
        archiver = Archiver(
            ArchiverSettings(archive_url=str(self.data / "windows")),
            self.kafka,
            self.topics,
            {"duel": self.game},
        )
        await run_until(archiver.run, lambda: archiver.stats.rows == N and archiver.stats.lag == 0)

    async def _follows(self, partition: int) -> list[bytes]:
        made = RewardsFold(partition, {}, {"duel": self.game}, self.topics)
        log = [
            Record(partition, r.offset, r.timestamp, r.key, r.value)
            async for batch in read_records(
                self.kafka, self.topics.game_events, Span(partitions=[partition])
            )
            for r in batch
        ]
        outputs = made.fold(log).outputs
        return [o.value for o in outputs if o.topic == self.topics.experiences and o.value]

    async def bytes_of(self) -> bytes:
        """All that the topics hold, keys and values, partition after partition."""
        found = b""
        for topic in (self.topics.game_events, self.topics.experiences, self.topics.dead_letters):
            for p in range(1 if topic == self.topics.dead_letters else PARTITIONS):
                async for batch in read_records(self.kafka, topic, Span(partitions=[p])):
                    found += b"".join((r.key or b"") + (r.value or b"") for r in batch)
        return found

    def rows(self) -> bytes:
        """All rows of the archive, without the compression of its files."""
        rows = read_archive(str((self.data / "windows").resolve()))
        return b"".join(msgspec.msgpack.encode(row) for row in rows)

    def files(self) -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in self.data.rglob("*") if p.is_file()}


def tailed(world: World, *more: str) -> dict[str, Any]:
    """Decision id -> decision, as `tail` shows it."""
    lines = world.command("tail", "game-events", "--filter", "type=decision.v2", *more)
    return {line["decision_id"]: line for line in lines}


@pytest.mark.integration
@pytest.mark.slow
def test_erase_destroys_text_and_changes_nothing_else(
    tmp_path: Path, broker: str, topics_prefix: str
) -> None:
    world = World(tmp_path, broker, topics_prefix)
    assert "grindstone keys init" in world.command("erase", ADA, "--yes", code=Exit.FAILED)
    world.command("keys", "init")
    asyncio.run(world.play())
    assert world.command("verify")["ok"]
    log, files = asyncio.run(world.bytes_of()), world.files()
    assert SEALED_PREFIX.encode() in log
    assert SEALED_PREFIX.encode() in world.rows()
    for where, held in {**files, Path("log"): log, Path("rows"): world.rows()}.items():
        for secret in (b"Ada-Lovelace", TEXT.encode(), b"player:"):
            assert secret not in held, where

    told = tailed(world, "--reveal")
    assert told["d0"]["language"]["prompt"] == f"{TEXT} 0"
    assert told["d1"]["details"]["said"] == f"{TEXT} 1"
    assert tailed(world)["d0"]["language"]["prompt"].startswith(SEALED_PREFIX)
    clear = world.command("replay", "archive", "--out", "clear.jsonl", "--reveal")
    assert clear["digest"] == world.command("replay", "archive", "--out", "sealed.jsonl")["digest"]
    assert f"{TEXT} 1" in (tmp_path / "clear.jsonl").read_text()
    assert TEXT not in (tmp_path / "sealed.jsonl").read_text()
    dry = world.command("erase", ADA, "--dry-run")
    assert (dry["key"], dry["dry_run"]) == ("held", True)
    assert world.files() == files
    assert "--yes" in world.command("erase", ADA, code=Exit.USAGE)

    done = world.command("erase", ADA, "--yes")
    assert done["key"] == "destroyed"
    assert done["windows"] == dry["windows"]
    sealed_rows = sum(w["n_rows"] for w in done["windows"])
    assert 0 < sealed_rows <= N // 6
    assert [(v["version"], v["n_rows"]) for v in done["versions"]] == [("1", sealed_rows)]
    again = world.command("erase", done["pseudonym"], "--yes")
    assert (again["key"], again["windows"]) == ("gone", done["windows"])

    report = world.command("verify")
    assert report["ok"]
    assert report["changed"] == 0
    assert asyncio.run(world.bytes_of()) == log
    keys = world.data / "keys"
    now = {p: held for p, held in world.files().items() if keys not in p.parents}
    assert now == {p: held for p, held in files.items() if keys not in p.parents}
    after = tailed(world, "--reveal")
    assert after["d0"]["language"] == {"prompt": ERASED, "response": ERASED}
    assert after["d0"]["details"] == {"said": ERASED}
    assert after["d1"] == told["d1"]
    audit = [json.loads(line) for line in (keys / AUDIT_FILE).read_text().splitlines()]
    assert [line["action"] for line in audit] == ["init", "erase", "erase"]
    assert b"Ada" not in (keys / AUDIT_FILE).read_bytes()
    shown = world.command("keys", "rotate")
    assert (shown["held"], shown["erased"]) == (1, 1)
    assert tailed(world, "--reveal")["d1"] == told["d1"]
    assert "PLAYER must be one" in world.command("erase", "Nobody", "--yes", code=Exit.FAILED)
