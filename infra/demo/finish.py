"""The end of a run: the game stops, everything settles, the verdict and the proof are made."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from infra import logs
from infra.demo.facts import Facts
from infra.demo.system import System
from infra.demo.verdict import Request, Score
from infra.reading import Look
from infra.settings import to_environ
from infra.status import database_state
from infra.supervisor import PARENT_VARIABLE
from schemas.model_events import Champion

log = logs.get(__name__)

SETTLE_S = 25.0
"""Longest wait for open decisions: the outcome's time-out of the game, and the lag."""
SEAL_S = 15.0
"""Longest wait for the last windows: their span in event time, and the lag."""
STORE_S = 30.0
"""Longest wait for the database to take the last rows."""
LOOK_S = 0.3


class Finish:
    """Winds a run up and judges it."""

    def __init__(self, system: System, facts: Facts, say: Callable[[str], None]) -> None:
        self._system = system
        self._facts = facts
        self._say = say
        self.problems: list[str] = []
        self.champion: Champion | None = None
        """Who was champion when the game stopped, and is judged."""

    async def run(self) -> tuple[dict[str, Score], dict[str, int] | None]:
        """The scores of the final matches, and what was lost and doubled (None: not proven).

        The matches are played while the last decisions settle.
        """
        await self._stop_playing()
        self.champion = self._facts.champion
        judging = asyncio.create_task(self._judge())
        try:
            await self._settle()
            self._say("verifying the log, judging on fresh matches")
            proof = await self._prove()
            return await judging, proof
        finally:
            judging.cancel()
            await asyncio.gather(judging, return_exceptions=True)

    async def _stop_playing(self) -> None:
        self._say("the game stops")
        await self._system.stop(["game"])
        for child in self._system.supervisor.children:
            if child.spec.name == "game" and child.last_code != 0:
                self.problems.append(f"the game must stop cleanly; got exit code {child.last_code}")
        await self._system.stop(["learner", "evaluator", "release"])

    async def _settle(self) -> None:
        """Waits until every decision is settled and every window sealed, then stops the rest."""
        self._say("settling what is open")
        facts, ends = self._facts, await self._ends()
        if not await self._until(lambda: self._folded(ends) and not facts.open_decisions, SETTLE_S):
            self.problems.append(f"every decision must be settled; got {facts.open_decisions} open")
        if not await self._until(lambda: sum(facts.windows.values()) >= facts.experiences, SEAL_S):
            held = sum(facts.windows.values())
            self.problems.append(
                f"every experience must be in a window; got {held} of {facts.experiences}"
            )
        await self._system.stop(["ticker"])
        ends = await self._ends()
        if not await self._until(lambda: self._folded(ends), SETTLE_S):
            self.problems.append("every tick must be folded; the last ones are not")
        if self._system.settings.sink == "timescale":
            await self._store()
        await self._system.stop()

    async def _store(self) -> None:
        """Waits until the database holds all that was settled."""
        self._say("storing the last rows")
        end, behind = time.monotonic() + STORE_S, None
        async with Look(self._system.settings.kafka) as look:
            while behind != 0 and time.monotonic() < end:
                await asyncio.sleep(LOOK_S)
                behind = ((await database_state(self._system.settings, look)) or {}).get("lag")
        if behind != 0:
            problem = "to be asked" if behind is None else f"{behind:,} records behind"
            self.problems.append(f"every experience must be in the database; it is {problem}")

    async def _ends(self) -> dict[int, int]:
        async with Look(self._system.settings.kafka) as look:
            return await look.ends(self._system.settings.topics.game_events)

    def _folded(self, ends: dict[int, int]) -> bool:
        """Whether the fold has answered a tick at or behind the last record before `ends`."""
        marks = self._facts.watermarks
        return all(p in marks and marks[p].origin.offset >= end - 1 for p, end in ends.items())

    async def _judge(self) -> dict[str, Score]:
        settings = self._system.settings
        models = settings.models_dir.resolve()
        served = {a.model for a in settings.load_game().archetypes.values()}
        versions = [v for v in self._facts.versions.values() if v.model in served]
        request = Request(
            game=str(settings.game_path),
            seed=settings.seed,
            learned=str(models / self.champion.folder) if self.champion else None,
            first=str(models / versions[0].folder) if versions else None,
        )
        answer = await self._ask("infra.demo.verdict", [], msgspec.json.encode(request))
        scores = [] if answer is None else msgspec.json.decode(answer, type=list[Score])
        return {score.policy: score for score in scores}

    async def _prove(self) -> dict[str, int] | None:
        answer = await self._ask("infra.cli", ["verify", "--json"], b"")
        if answer is None:
            return None
        found: dict[str, Any] = msgspec.json.decode(answer)
        if not found["ok"]:
            first = found["culprits"][0]
            what = f"{first['kind']} at {first['where']}: {first['what']}"
            self.problems.append(f"the verification names {what}")
        return found

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
