from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from games.battle.play import BattleMatches
from games.battle.settings import BattleSettings
from games.champions import ChampionLoader, LoadedChampion
from games.live import LiveGame, play_and_follow
from schemas.events import Decision, Outcome
from schemas.game import load_game
from tests.games.fakes import (
    MODEL,
    FedFollower,
    KeepingWriter,
    ManualClock,
    champion,
    model_folder,
)
from tests.games.nets import battle_graph, write_model

GAME = load_game(Path(__file__).parents[2] / "games" / "battle" / "battle.toml")
Told = list[tuple[dict[str, float], dict[str, str]]]


class Scene:
    """A live game with everything around it handed in."""

    def __init__(self, models: Path, rate: float = 500.0, worlds: int = 2) -> None:
        self.models = models
        self.clock = ManualClock()
        self.writer = KeepingWriter()
        self.told: Told = []
        matches = BattleMatches(BattleSettings(worlds=worlds), 1, "a1")
        self.live = LiveGame(matches, self.writer, self.clock, rate, self.on_metrics)
        self.loader = ChampionLoader(GAME, MODEL, models, 0.05, 2, self.live.refused)
        self.follower = FedFollower()
        self.stop = asyncio.Event()

    def on_metrics(self, values: dict[str, float], labels: dict[str, str]) -> None:
        self.told.append((values, labels))

    async def load(self, version: str, seed: int, appended_ms: int = 0) -> LoadedChampion | None:
        files = write_model(model_folder(self.models, version), battle_graph(seed))
        return await self.loader.take([champion(version, files, appended_ms)])

    def versions(self) -> list[str]:
        """Of the decisions, each change once."""
        found: list[str] = []
        for event in self.writer.events:
            if isinstance(event, Decision) and found[-1:] != [event.policy_version]:
                found.append(event.policy_version)
        return found


def test_live_swaps_between_two_steps_and_measures_it(tmp_path: Path) -> None:
    async def scenario() -> Scene:
        scene = Scene(tmp_path)
        await scene.live.step()
        scene.clock.seconds = 2_000.0
        loaded = await scene.load("v0001", 1, appended_ms=1_999_250)
        assert loaded is not None
        scene.live.offer(loaded)
        await scene.live.step()
        await scene.live.step()
        return scene

    scene = asyncio.run(scenario())
    assert scene.versions() == ["scripted", "v0001"]
    assert [(s.version, s.latency_ms) for s in scene.live.swaps] == [("v0001", 750.0)]
    assert ({"swap_ms": 750.0}, {"version": "v0001"}) in scene.told
    decided = {e.decision_id for e in scene.writer.events if isinstance(e, Decision)}
    assert decided == {e.decision_id for e in scene.writer.events if isinstance(e, Outcome)}
    assert len(decided) == 3 * 12


def test_live_never_decides_faster_than_its_rate(tmp_path: Path) -> None:
    async def scenario() -> Scene:
        scene = Scene(tmp_path, rate=500.0)
        playing = asyncio.create_task(scene.live.run(scene.stop))
        while scene.clock.seconds < 1_010:
            await asyncio.sleep(0)
        scene.stop.set()
        await playing
        return scene

    scene = asyncio.run(scenario())
    decisions = sum(isinstance(e, Decision) for e in scene.writer.events)
    assert decisions == pytest.approx(500 * (scene.clock.seconds - 1_000), abs=13)
    rates = [values["decisions_per_second"] for values, _ in scene.told[:-1]]
    assert rates
    assert max(rates) <= 513


def test_live_does_not_catch_up_lost_time(tmp_path: Path) -> None:
    async def scenario() -> Scene:
        scene = Scene(tmp_path)
        scene.writer = KeepingWriter(scene.clock, takes_s=0.1)  # slower than the rate
        scene.live._writer = scene.writer
        playing = asyncio.create_task(scene.live.run(scene.stop))
        while len(scene.writer.events) < 100:
            await asyncio.sleep(0)
        scene.writer._takes_s = 0.0
        n_before, since = len(scene.writer.events), scene.clock.seconds
        while scene.clock.seconds < since + 2:
            await asyncio.sleep(0)
        scene.stop.set()
        await playing
        n_after = sum(isinstance(e, Decision) for e in scene.writer.events[n_before:])
        assert n_after <= 500 * (scene.clock.seconds - since) + 24
        return scene

    values, _ = asyncio.run(scenario()).told[-1]
    assert values["writer_wait_s"] > 5


def test_live_counts_matches_by_result_and_opponent(tmp_path: Path) -> None:
    async def scenario() -> Scene:
        scene = Scene(tmp_path, worlds=4)
        for _ in range(200):
            await scene.live.step()
            scene.clock.seconds += 0.05
        return scene

    values, labels = asyncio.run(scenario()).told[-1]
    counted = sum(n for name, n in values.items() if name.startswith(("won_", "lost_", "draw_")))
    assert counted == values["matches"] > 0
    assert labels == {"version": "scripted"}


def test_live_refuses_a_corrupt_champion_and_goes_on(tmp_path: Path) -> None:
    async def scenario() -> Scene:
        scene = Scene(tmp_path)
        good = write_model(model_folder(tmp_path, "v0001"), battle_graph(1))
        bad = write_model(model_folder(tmp_path, "v0002"), battle_graph(2))
        (model_folder(tmp_path, "v0002") / "model.onnx").write_bytes(b"corrupt")
        scene.follower.queue.put_nowait([champion("v0001", good)])
        scene.follower.queue.put_nowait([champion("v0002", bad)])
        running = asyncio.create_task(
            play_and_follow(scene.live, scene.follower, scene.loader, scene.stop)
        )
        while not any("models_refused" in values for values, _ in scene.told):
            await asyncio.sleep(0)
        n = len(scene.writer.events)
        while len(scene.writer.events) < n + 100:
            await asyncio.sleep(0)
        scene.stop.set()
        await running
        return scene

    scene = asyncio.run(scenario())
    assert scene.versions() == ["v0001"]  # the log's champion is there before the first step
    values, labels = next(t for t in scene.told if "models_refused" in t[0])
    assert values == {"models_refused": 1.0}
    assert labels["version"] == "v0002"
    assert "model.onnx must be" in labels["reason"]
    assert "bytes by its manifest; got 7 bytes" in labels["reason"]


def test_live_ends_when_it_cannot_follow_any_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path)
        scene.follower.queue.put_nowait([])
        scene.follower.queue.put_nowait(None)
        await play_and_follow(scene.live, scene.follower, scene.loader, scene.stop)

    with pytest.raises(ConnectionError):
        asyncio.run(scenario())


def test_loader_takes_the_newest_and_keeps_former_ones_as_opponents(tmp_path: Path) -> None:
    async def scenario() -> list[LoadedChampion | None]:
        scene = Scene(tmp_path)
        files = {
            v: write_model(model_folder(tmp_path, v), battle_graph(k))
            for k, v in enumerate(["v1", "v2", "v3", "v4", "v5"])
        }
        history = [champion(v, files[v]) for v in ("v1", "v2", "v3", "v4")]
        other = champion("v9", [], model="another")
        return [
            await scene.loader.take([*history, other]),
            await scene.loader.take([]),
            await scene.loader.take([champion("v5", files["v5"], 77)]),
            await scene.loader.take([champion("v4", files["v4"])]),
        ]

    first, none, second, back = asyncio.run(scenario())
    assert none is None
    found = [(c.policy.version, [p.version for p in c.earlier]) for c in (first, second, back) if c]
    assert found == [("v4", ["v3", "v2"]), ("v5", ["v4", "v3"]), ("v4", ["v5", "v3"])]
    assert second is not None
    assert second.appended_ms == 77


def test_loader_refuses_a_folder_outside_the_models_folder(tmp_path: Path) -> None:
    async def scenario() -> Scene:
        scene = Scene(tmp_path / "models")
        files = write_model(tmp_path / "v1", battle_graph())
        away = champion("v1", files, folder="../v1")
        assert await scene.loader.take([away]) is None
        return scene

    (values, labels), *_ = asyncio.run(scenario()).told
    assert values == {"models_refused": 1.0}
    assert "folder must be below" in labels["reason"]
