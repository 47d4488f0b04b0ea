"""Replay, backtest and SQL from the command line, on a log that a real broker holds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from agents.rewards.fold import RewardsFold
from infra.cli.common import Exit
from schemas.kafka import KafkaSettings
from schemas.records import Experience, decode_rows
from schemas.topics import Topics
from streams.admin import ensure_topics
from streams.engine.records import Record
from streams.reader import Span, read_records
from tests.infra.lake import DUELS, START_MS, STEP_MS, archive, duels, log_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]
N_STEPS, PARTITIONS = 100, 2


class Home:
    """A folder with data and a description, and topics on a broker."""

    def __init__(self, folder: Path, broker: str, prefix: str) -> None:
        self.folder = folder
        self.kafka = KafkaSettings(bootstrap_servers=broker)
        self.topics = Topics(prefix)
        (folder / "duel.toml").write_text(DUELS)
        asyncio.run(self._fill())

    async def _fill(self) -> None:
        await ensure_topics(self.kafka, self.topics.specs(PARTITIONS))
        async with AIOKafkaProducer(**self.kafka.client()) as producer:
            for partition in range(PARTITIONS):
                actors = "abcd"[2 * partition :]
                for record in log_of(N_STEPS, seed=partition * 10 + 1, actors=actors):
                    await producer.send_and_wait(
                        self.topics.game_events, record.value, partition=partition
                    )
        for partition in range(PARTITIONS):
            rows = await self.rows(partition)
            archive(rows, duels(), self.folder / "data" / "windows", partition)

    async def rows(self, partition: int) -> list[Experience]:
        """The rows that the log of the broker implies."""
        fold = RewardsFold(partition, {}, {"duel": duels()}, self.topics)
        span = Span(partitions=[partition])
        found: list[Experience] = []
        async for batch in read_records(self.kafka, self.topics.game_events, span):
            records = [Record(r.partition, r.offset, r.timestamp, r.key, r.value) for r in batch]
            for output in fold.fold(records).outputs:
                if output.topic == self.topics.experiences and output.value:
                    rows = decode_rows(output.value)
                    found += [row for row in rows if isinstance(row, Experience)]
        return found

    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "GRINDSTONE" not in name}
        return {
            **kept,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "GRINDSTONE_DATA_DIR": str(self.folder / "data"),
            "GRINDSTONE_GAME": str(self.folder / "duel.toml"),
            "GRINDSTONE_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "GRINDSTONE_TOPICS_PREFIX": self.topics.prefix,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "infra.cli", *arguments],
            cwd=self.folder,
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> Any:
        process = self.start(*arguments, "--json")
        out, err = process.communicate(timeout=240)
        assert process.returncode == Exit.OK, err
        return json.loads(out)


@pytest.fixture
def home(tmp_path: Path, broker: str, topics_prefix: str) -> Home:
    return Home(tmp_path, broker, topics_prefix)


def test_replay_then_backtest_then_sql(home: Home) -> None:
    whole = home.run("replay", "game-events", "--out", "events.jsonl")
    assert whole["types"]["tick.v1"] == PARTITIONS * (N_STEPS // 10 + 1)
    assert len((home.folder / "events.jsonl").read_text().splitlines()) == whole["rows"]
    part = home.run("replay", "game-events", "--out", "part.parquet", "--partition", "1",
                    "--from-offset", "3", "--to-offset", "6", "--type", "decision")  # fmt: skip
    assert part["offsets"] == {"1": [3, 6]}
    assert part["rows"] == 20
    again = home.run("replay", "game-events", "--out", "again.jsonl")
    assert again["digest"] == whole["digest"]
    assert (home.folder / "again.jsonl").read_bytes() == (home.folder / "events.jsonl").read_bytes()

    asked = ("backtest", "--reward", "duel@2", "--horizon", "500ms,2s", "--processes", "2")
    found = home.run(*asked)
    variants = {v["name"]: v for v in found["report"]["variants"]}
    assert set(variants) == {"duel@2+500ms", "duel@2+2s"}
    assert found["report"]["source"] == "log"
    assert all(v["n_matched"] == 2 * PARTITIONS * N_STEPS for v in variants.values())
    assert all(
        v["groups"][0]["rewards"]["total"]["change"]["spearman"] < 1 for v in variants.values()
    )
    assert home.run(*asked)["new"] is False
    redone = home.run(*asked, "--again", "--processes", "1")
    assert redone["digest"] == found["digest"]
    times = ("--from", str(START_MS + 10 * STEP_MS), "--to", str(START_MS + 20 * STEP_MS))
    ranged = home.run(*asked, *times, "--before", "refolded")
    assert ranged["backtest_id"] != found["backtest_id"]
    assert {v["n_rows"] for v in ranged["report"]["variants"]} == {2 * PARTITIONS * 10}

    query = "SELECT variant, count(*) AS n, avg(total) AS total FROM rescored GROUP BY 1 ORDER BY 1"
    rows = {row["variant"]: row for row in home.run("sql", query)}
    assert rows["duel@2+2s"]["n"] == 2 * PARTITIONS * (N_STEPS + 10)
    assert rows["before"]["n"] == 2 * PARTITIONS * 10
    latest = home.run("sql", "SELECT count(*) AS n FROM decisions_latest")
    assert latest == [{"n": 2 * PARTITIONS * N_STEPS}]


def test_bootstrap_writes_events_that_the_fold_settles(home: Home) -> None:
    before = home.run("replay", "game-events", "--out", "before.jsonl")
    wrote = home.run("bootstrap", "synthetic", "--samples", "40", "--rate", "1000000")
    assert wrote["decisions"] == {"fighter": 40, "guard": 40}
    told = home.run("bootstrap", "history", "--samples", "30", "--archetype", "guard")
    assert told["decisions"] == {"guard": 30}
    after = home.run("replay", "game-events", "--out", "after.jsonl")
    assert after["rows"] == before["rows"] + wrote["events"] + told["events"]
    new = home.run("replay", "game-events", "--out", "new.jsonl", "--policy", "synthetic")
    assert new["types"] == {"decision.v2": 80, "outcome.v3": 80}
    ids = json.loads((home.folder / "new.jsonl").read_text().splitlines()[0])["decision_id"]
    assert wrote["incarnation"] in ids


def test_ctrl_c_leaves_nothing(home: Home) -> None:
    process = home.start("backtest", "--horizon", ",".join(f"{n}00ms" for n in range(1, 16)))
    folder = home.folder / "data" / "backtests"
    end = time.monotonic() + 120
    while not (folder.is_dir() and list(folder.iterdir())):  # it works aside there
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, err = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED, err
    assert err.splitlines()[-1] == "grindstone: interrupted"
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []
