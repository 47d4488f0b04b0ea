"""The demo: from nothing to a verdict on a policy that has learned while its matches went on."""

import asyncio
import sys
import time
from pathlib import Path

import msgspec

from infra import logs
from infra.demo import chaos
from infra.demo.collector import Collector
from infra.demo.facts import Facts
from infra.demo.finish import Finish
from infra.demo.report import Report, story, summary, why_not, write_files
from infra.demo.screen import Screen
from infra.demo.system import System
from infra.demo.verdict import Score
from infra.interrupt import Interrupted, interruptible
from infra.processes import wanted
from infra.settings import Settings
from infra.supervisor import SupervisorError

log = logs.get(__name__)

WIND_UP_S = 15.0
"""Kept for the end of a run: 2 s until the game has stopped, 5 until all is settled and sealed, and
the picture."""
VERIFY_S = 70e-6
"""Kept for the verification of each decision: 100 us of processor time, on two cores, and room
for a machine that does something else as well."""
GOOD_LOWER95 = 0.85
"""A champion whose gate and confirmation together bound it so is good enough to stop early."""
LATE = ("learner", "release", "evaluator")
"""They have nothing to do before the first windows, and loading them would delay the game."""

HOME = Path(".grindstone/demo")
INTERRUPTED = 130


class DemoPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a demo goes."""

    seconds: float
    chaos: bool = False
    out: Path | None = None
    as_json: bool = False


async def run_demo(settings: Settings, plan: DemoPlan) -> int:
    """Runs the demo; returns the exit code of the command."""
    demo = Demo(settings, plan)
    try:
        async with interruptible():
            report = await demo.run()
    except Interrupted:
        print("grindstone: interrupted; every process is stopped", file=sys.stderr)
        return INTERRUPTED
    except SupervisorError as error:
        print(f"grindstone: {error}", file=sys.stderr)
        return 1
    print(summary(report), file=sys.stderr if plan.as_json else sys.stdout, flush=True)
    if plan.as_json:
        print(msgspec.json.encode(report).decode(), flush=True)
    return 0 if report.passed else 1


def early(settings: Settings) -> list[str]:
    """The processes that a run starts with; the others follow when there are decisions."""
    return [name for name in wanted(settings) if name not in LATE]


class Demo:
    """One run."""

    def __init__(self, settings: Settings, plan: DemoPlan) -> None:
        self._began = time.monotonic()
        self._began_ms = time.time() * 1000
        self._plan = plan
        self._facts = Facts()
        settings = msgspec.structs.replace(settings, data_dir=str((HOME / "data").resolve()))
        own_database = settings.sink == "timescale"
        self._system = System(settings, HOME, wipe=True, own_database=own_database)
        self._screen = Screen(self._facts, plan.seconds, to_stderr=plan.as_json)
        self._kills = 0
        self._rates: list[float] = []

    @property
    def _settings(self) -> Settings:
        return self._system.settings

    async def run(self) -> Report:
        """Starts everything, watches, winds up, judges.

        Raises:
            SupervisorError: a process could not be kept alive.
        """
        HOME.mkdir(parents=True, exist_ok=True)
        with (HOME / "demo.log").open("w") as stream, self._screen:
            logs.configure("demo", self._settings.log_level, stream)
            self._say("starting the broker")
            try:
                await self._system.open()
                return await self._with_view()
            finally:
                self._say("stopping")
                await self._system.close()

    async def _with_view(self) -> Report:
        collector = Collector(self._settings, self._facts, self._began_ms, self._system.leaders)
        ticking = asyncio.create_task(self._tick())
        try:
            self._say("starting the processes")
            await self._system.start(early(self._settings))
            collector.start()
            await self._watch()
            return await self._finish(collector)
        finally:
            ticking.cancel()
            await collector.stop()

    async def _watch(self) -> None:
        """Until the time is up or the champion is clearly good."""
        killing: asyncio.Task[None] | None = None
        failing = asyncio.create_task(self._system.supervisor.failed())
        late = False
        try:
            while self._elapsed() < self._time_to_learn():
                if not late and (self._facts.decisions or self._elapsed() > 20):
                    late = True
                    await self._system.start(LATE)
                    self._say("learning")
                    if self._plan.chaos:
                        killing = asyncio.create_task(self._kill_on_plan())
                if failing.done():
                    failing.result()
                best = self._facts.champion
                if best is not None and best.lower95 >= GOOD_LOWER95:
                    self._note(f"{best.version} is clearly good: the run may end")
                    break
                if late and len(self._facts.versions):
                    self._rates.append(self._facts.decision_rate.value())
                await asyncio.sleep(0.5)
        finally:
            for task in (killing, failing):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    async def _finish(self, collector: Collector) -> Report:
        collector.sample_usage()
        log.info("processor seconds", **self._facts.cpu_s())
        finish = Finish(self._system, self._facts, self._say)
        scores, proof = await finish.run()
        self._facts.champion = finish.champion
        for problem in finish.problems:
            self._note(problem)
        await collector.stop()
        return self._report(scores, proof, finish.problems)

    async def _kill_on_plan(self) -> None:
        """Kills a process every `chaos.EVERY_S`, the broker once in the middle of the run."""
        left = self._time_to_learn() - self._elapsed()
        middle = max(1, int(left / chaos.EVERY_S / 2))
        names = [child.spec.name for child in self._system.supervisor.children]
        for name in chaos.plan(self._settings.seed, names, middle):
            await asyncio.sleep(chaos.EVERY_S)
            self._kills += 1
            self._note(f"{self._elapsed():.0f} s: chaos killed {name}")
            broker = self._system.broker
            if name == chaos.BROKER and broker is not None:
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(broker.start)
            else:
                self._system.supervisor.kill(name)

    def _report(
        self, scores: dict[str, Score], proof: dict[str, int] | None, problems: list[str]
    ) -> Report:
        facts, settings = self._facts, self._settings
        lost = proof["lost"] if proof else None
        doubled = proof["doubled"] if proof else None
        needed = self._system.settings.load_game().gate.final_lower95
        reasons = why_not(scores, lost, doubled, needed) + problems
        learned = scores.get("learned")
        facts.seconds = self._elapsed()
        told = story(
            facts,
            scores,
            "It learns to beat the scripted policy while it plays",
            f"{settings.game} · seed {settings.seed} · {facts.decisions:,} decisions · "
            f"{len(facts.versions)} versions · lost {lost}, doubled {doubled}",
        )
        picture, table = write_files(self._plan.out or HOME / "out", told)

        def rate(name: str) -> float | None:
            return scores[name].win_rate if name in scores else None

        return Report(
            passed=not reasons,
            game=settings.game,
            seed=settings.seed,
            seconds=round(self._elapsed(), 1),
            decisions=facts.decisions,
            experiences=facts.experiences,
            windows=len(facts.windows),
            versions=len(facts.versions),
            champion=facts.champion.version if facts.champion else None,
            learned_win_rate=rate("learned"),
            learned_lower95=learned.interval[0] if learned else None,
            scripted_win_rate=rate("scripted"),
            random_win_rate=rate("random"),
            first_policy_win_rate=rate("first"),
            lost=lost,
            doubled=doubled,
            database_windows=proof.get("database_windows") if proof else None,
            dead_letters=facts.dead_letters,
            open=facts.open_decisions,
            first_decision_s=facts.first_decision_s,
            decisions_per_s=sum(self._rates) / len(self._rates) if self._rates else None,
            experience_p95_ms=facts.latency_p95_ms,
            swap_max_ms=max(facts.swaps_ms.values(), default=None),
            memory_peak_mb=facts.memory_peak_bytes / 1e6,
            cpu_s=facts.cpu_s(),
            restarts=len(self._system.restarts),
            kills=self._kills,
            reasons=reasons,
            picture=str(picture),
            csv=str(table),
        )

    async def _tick(self) -> None:
        while True:
            self._facts.seconds = self._elapsed()
            self._facts.processes = self._system.states()
            self._screen.show()
            await asyncio.sleep(1.0)

    def _time_to_learn(self) -> float:
        """Seconds after which the run must be wound up to end in time."""
        return self._plan.seconds - WIND_UP_S - VERIFY_S * self._facts.decisions

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _say(self, phase: str) -> None:
        self._facts.phase = phase
        self._facts.seconds = self._elapsed()
        self._screen.show(force=True)

    def _note(self, text: str) -> None:
        self._facts.notes.append(text)
        log.info(text)
