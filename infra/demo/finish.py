"""The end of a run: the game stops, everything settles, the verdict and the proof are made."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from infra import logs
from infra.demo.facts import Facts
from infra.demo.system import System
from infra.demo.verdict import Request, Score
from infra.reading import Look
from infra.settings import to_environ
from infra.supervisor import PARENT_VARIABLE

log = logs.get(__name__)

SETTLE_S = 25.0
"""Longest wait for open decisions: the outcome's time-out of the game, and the lag."""
SEAL_S = 15.0
"""Longest wait for the last windows: their span in event time, and the lag."""
LOOK_S = 0.3


class Finish:
    """Winds a run up and judges it."""

    def __init__(self, system: System, facts: Facts, say: Callable[[str], None]) -> None:
        self._system = system
        self._facts = facts
        self._say = say
        self.problems: list[str] = []

    async def wind_up(self) -> None:
        """Stops the game, waits until every decision is settled and every window sealed."""
        self._say("the game stops")
        await self._system.stop(["game"])
        for child in self._system.supervisor.children:
            if child.spec.name == "game" and child.last_code != 0:
                self.problems.append(f"the game must stop cleanly; got exit code {child.last_code}")
        await self._system.stop(["learner", "evaluator"])
        self._say("settling what is open")
        facts = self._facts
        ends = await self._ends()

        def settled() -> bool:
            """Whether nothing waits any more of what the game has said."""
            return self._seen(ends) and not facts.open_decisions

        if not await self._until(settled, SETTLE_S):
            self.problems.append(f"every decision must be settled; got {facts.open_decisions} open")
        if not await self._until(lambda: sum(facts.windows.values()) >= facts.experiences, SEAL_S):
            held = sum(facts.windows.values())
            self.problems.append(
                f"every experience must be in a window; got {held} of {facts.experiences}"
            )
        await self._system.stop(["ticker"])  # a tick behind the fold's stop would go unanswered
        ends = await self._ends()
        if not await self._until(lambda: self._seen(ends), SETTLE_S):
            self.problems.append("the fold must answer every tick; it did not")
        await self._system.stop()

    async def _ends(self) -> dict[int, int]:
        """The end of each partition of `game-events`."""
        async with Look(self._system.settings.kafka) as look:
            return await look.ends(self._system.settings.topics.game_events)

    def _seen(self, ends: dict[int, int]) -> bool:
        """Whether the fold has answered a tick at the end of each partition, or behind it."""
        marks = self._facts.watermarks
        return all(p in marks and marks[p].origin.offset >= end - 1 for p, end in ends.items())

    async def judge_and_prove(self) -> tuple[dict[str, Score], dict[str, int] | None]:
        """The scores of the final matches, and lost and doubled (None when not proven)."""
        champion, versions = self._facts.champion, self._facts.versions
        models = self._system.settings.models_dir.resolve()
        request = Request(
            game=self._system.settings.game,
            seed=self._system.settings.seed,
            learned=str(models / champion.folder) if champion else None,
            first=str(models / next(iter(versions.values())).folder) if versions else None,
        )
        verdict, proof = await asyncio.gather(
            self._ask("infra.demo.verdict", [], msgspec.json.encode(request)),
            self._ask("infra.cli", ["verify", "--json"], b""),
        )
        scores: list[Score] = []
        if verdict is not None:
            scores = msgspec.json.decode(verdict, type=list[Score])
        found = None if proof is None else msgspec.json.decode(proof)
        if found is not None and not found["ok"]:
            first = found["culprits"][0]
            what = f"{first['kind']} at {first['where']}: {first['what']}"
            self.problems.append(f"the verification names {what}")
        return {score.policy: score for score in scores}, found

    async def _until(self, true: Callable[[], bool], within_s: float) -> bool:
        end = time.monotonic() + within_s
        while not true():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    async def _ask(self, module: str, arguments: list[str], given: bytes) -> bytes | None:
        """What a process of ours answers on stdout; None, and a problem, when it fails."""
        errors = self._system.settings.run_dir / "logs" / f"{module.rpartition('.')[2]}.log"
        with errors.open("ab") as stream:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stream,
                env={
                    **os.environ,
                    **to_environ(self._system.settings),
                    PARENT_VARIABLE: str(os.getpid()),
                },
                start_new_session=True,
            )
        self._system.helpers[process.pid] = module.rpartition(".")[2]
        try:
            answer, _ = await process.communicate(given)
        finally:
            del self._system.helpers[process.pid]
            # With all that it started: an orphan would hold the pipe, and this wait, open.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if not answer:
            self.problems.append(f"{module} must answer; got exit code {process.returncode}")
            log.warning("no answer", module=module, log=str(errors))
            return None
        return answer
