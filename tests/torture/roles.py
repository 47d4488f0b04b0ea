"""The processes of the ledger's torture; each runs until SIGTERM.

    python -m tests.torture.roles ROLE PLACE

PLACE is the file of `Place`. SIGUSR1 blocks the event loop for `Place.block_s` seconds.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer

from agents.rewards.agent import MakeRewardsFold, rewards_settings
from infra.supervisor import die_with_parent
from schemas.database import DatabaseSettings
from schemas.kafka import KafkaSettings
from schemas.topics import Topics
from streams.archiver.service import ArchiverSettings, run_archiver
from streams.faust_app import run_fold_worker
from tests.torture.script import BLOCK, Play, Script, torture_game

SESSION_MS = 4_000
SLOWLY = 4.0
"""Rounds beyond what was asked for take so many times as long: they only keep up the load while the
last faults are done."""
REBALANCE_MS = 6_000


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the run is; what its processes share."""

    bootstrap: str
    prefix: str
    folder: str
    play: Play
    rounds: int
    """Rounds that are played at least, by each game process."""
    rounds_per_s: float
    began_s: float
    """`time.time` of the first round; a process that was away catches up with its schedule."""
    block_s: float
    database: DatabaseSettings | None = None
    """How to connect to the database, where there is one."""

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach the brokers."""
        return KafkaSettings(bootstrap_servers=self.bootstrap)

    @property
    def topics(self) -> Topics:
        """The run's topics."""
        return Topics(self.prefix)

    @property
    def archive(self) -> str:
        """Where the windows lie."""
        return str(Path(self.folder) / "archive")

    @property
    def stop_file(self) -> Path:
        """Exists when the games may stop after `rounds` rounds."""
        return Path(self.folder) / "stop"

    def may_end(self, n: int) -> bool:
        """Whether a game may end before round `n`."""
        return n >= self.rounds and n % BLOCK == 0 and self.stop_file.exists()

    def wait_s(self, n: int) -> float:
        """Return how long round `n` is ahead of its time; those beyond the last come slowly."""
        if n > self.rounds:
            return SLOWLY / self.rounds_per_s
        return self.began_s + n / self.rounds_per_s - time.time()

    def round_file(self, game: int) -> Path:
        """Holds the next round of a game process."""
        return Path(self.folder) / f"round-{game}"

    def next_round(self, game: int) -> int:
        """Return the next round of a game process."""
        path = self.round_file(game)
        return int(path.read_text()) if path.exists() else 0


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one."""
    aside = path.with_suffix(".part")
    aside.write_text(text)
    aside.replace(path)


def rewards(place: Place) -> None:
    """The rewards fold as it runs in production, with a short session."""
    made = msgspec.structs.replace(
        rewards_settings(place.topics),
        session_timeout_ms=SESSION_MS,
        heartbeat_ms=800,
        rebalance_timeout_ms=REBALANCE_MS,
    )
    games = {"torture": torture_game()}
    run_fold_worker("rewards", made, place.kafka, MakeRewardsFold(games, place.topics))


def archiver(place: Place) -> None:
    """An archiver with a short session."""
    settings = ArchiverSettings(
        archive_url=place.archive, session_timeout_ms=SESSION_MS, fetch_min_bytes=1
    )
    games = {"torture": torture_game()}
    _until_stopped(lambda stop: run_archiver(settings, place.kafka, place.topics, games, stop=stop))


def game(place: Place, number: int) -> None:
    """A game process: round after round, each acknowledged before it is noted."""

    async def work(stop: asyncio.Event) -> None:
        script = Script(place.play, number)
        producer = AIOKafkaProducer(
            **place.kafka.client(),
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=5,
            request_timeout_ms=120_000,  # a broker that is killed is waited for
        )
        await producer.start()
        try:
            n = place.next_round(number)
            while not stop.is_set() and not place.may_end(n):
                sent = [
                    await producer.send(place.topics.game_events, value, partition=partition)
                    for partition, value in script.records(n)
                ]
                await asyncio.gather(*sent)
                n += 1
                write_whole(place.round_file(number), str(n))
                await asyncio.sleep(max(place.wait_s(n), 0.0))
        finally:
            await producer.stop()

    _until_stopped(work)


def _until_stopped(work: Callable[[asyncio.Event], Awaitable[object]]) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await work(stop)

    asyncio.run(main())


def _be_breakable(block_s: float) -> None:
    def block(_number: int, _frame: object) -> None:
        logging.info("blocked for %.0f s", block_s)
        time.sleep(block_s)
        logging.info("goes on")

    signal.signal(signal.SIGUSR1, block)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the torturer


def main(role: str, path: str) -> None:
    """Run one role, e.g. ``rewards-0``."""
    die_with_parent()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(process)d %(message)s"
    )
    for chatty in ("aiokafka", "faust", "mode"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    place = msgspec.json.decode(Path(path).read_bytes(), type=Place)
    _be_breakable(place.block_s)
    name, _, number = role.partition("-")
    if name == "game":
        game(place, int(number))
    elif name == "watch":
        from tests.torture.watch import watch

        _until_stopped(lambda stop: watch(place, stop))
    elif name == "sink":
        from tests.torture.database import sink

        _until_stopped(lambda stop: sink(place, SESSION_MS, stop))
    else:
        {"rewards": rewards, "archiver": archiver}[name](place)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
