"""What a run knows about itself: numbers folded from the topics, for the page and the verdict."""

import math
from bisect import bisect_right

import msgspec

from schemas.model_events import (
    Champion,
    Evaluation,
    MatchUp,
    ModelEvent,
    Registered,
    Rejected,
)
from schemas.records import Experience, Metric, Origin, Watermark, Window

MAX_LATENCIES = 20_000
RATE_SPAN_S = 15.0

SCRIPTED = "scripted"


class Version(msgspec.Struct, kw_only=True):
    """One model version and what became of it."""

    version: str
    model: str
    seconds: float
    folder: str
    n_updates: int
    loss: float | None = None
    fate: str = "registered"
    wins: int = 0
    matches: int = 0
    reasons: list[str] = []

    @property
    def win_rate(self) -> float | None:
        """Share of matches won against the scripted pack; None before the first one."""
        return self.wins / self.matches if self.matches else None


def record_of(event: Evaluation) -> MatchUp | None:
    """The candidate's matches against the scripted pack, of the last stage that it played.

    The first stage chooses who is confirmed, so it flatters those it chose.
    """
    own = [m for m in event.matches if (m.subject, m.opponent) == (event.version, SCRIPTED)]
    return own[-1] if own else None


class Rate:
    """Events a second over the last `RATE_SPAN_S`, from samples of a rising counter."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []

    def add(self, seconds: float, total: float) -> None:
        """Takes the counter as it stood at `seconds`; a fall starts over (a process restarted)."""
        if self._samples and total < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((seconds, total))
        keep = bisect_right(self._samples, seconds - RATE_SPAN_S, key=lambda s: s[0])
        del self._samples[: max(0, keep - 1)]

    def value(self) -> float:
        """The mean rate over the samples held; 0 with fewer than two."""
        if len(self._samples) < 2:
            return 0.0
        (t0, n0), (t1, n1) = self._samples[0], self._samples[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0


class Facts:
    """The state behind the page. Every `on_*` takes what came and the seconds since the start."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.phase = "starting"
        self.watermarks: dict[int, Watermark] = {}
        self.windows: dict[str, int] = {}
        self.versions: dict[tuple[str, str], Version] = {}
        """By model and version, in the order of their registration."""
        self.champion: Champion | None = None
        self.metrics: dict[str, dict[str, float]] = {}
        self.latencies_ms: list[float] = []
        self._latency_every = 1
        self._latencies_seen = 0
        self._last_sampled: dict[int, Origin] = {}
        self.swaps_ms: dict[str, float] = {}
        """Version -> from its event to its acting in every world, when that was told first."""
        self.lag: dict[str, int] = {}
        self.dead_letters = 0
        self.memory_bytes = 0
        self.memory_peak_bytes = 0
        self.cpu: dict[tuple[str, int], float] = {}
        self.first_decision_s: float | None = None
        self.decision_rate = Rate()
        self.match_rate = Rate()
        self.processes: dict[str, str] = {}
        self.notes: list[str] = []

    def on_model(self, event: ModelEvent, seconds: float) -> None:
        """Registered, evaluated, made champion or rejected."""
        if isinstance(event, Registered):
            self.versions[event.model, event.version] = Version(
                version=event.version,
                model=event.model,
                seconds=seconds,
                folder=event.folder,
                n_updates=event.n_updates,
                loss=event.metrics.get("loss"),
            )
            return
        known = self.versions.get((event.model, event.version))
        if known is None:
            return
        if isinstance(event, Evaluation):
            record = record_of(event)
            if record is not None:
                known.wins, known.matches = record.wins, record.n
            if known.fate == "registered":
                known.fate = "unplayable" if event.error else "evaluated"
        elif isinstance(event, Champion):
            known.fate, known.reasons = "champion", event.reasons
            self.champion = event
        elif isinstance(event, Rejected):
            known.fate, known.reasons = "rejected", event.reasons

    def on_window(self, window: Window) -> None:
        """A sealed window; one announced again counts once."""
        self.windows[window.window_id] = window.n_rows

    def on_metric(self, metric: Metric, seconds: float) -> None:
        """What a process measured; new values replace old ones of the same name."""
        values = self.metrics.setdefault(metric.process, {})
        values.update(metric.values)
        swap = metric.values.get("swap_ms")
        if swap is not None:
            # A game that was killed takes the champion up again, long after its event.
            self.swaps_ms.setdefault(metric.labels.get("version", ""), swap)
        if "matches" in metric.values:
            self.match_rate.add(seconds, metric.values["matches"])

    def on_watermark(self, mark: Watermark, seconds: float) -> None:
        """The fold's ledger of one partition; an older one is not taken."""
        held = self.watermarks.get(mark.origin.partition)
        if held is not None and mark.origin <= held.origin:
            return
        self.watermarks[mark.origin.partition] = mark
        self.decision_rate.add(seconds, float(self.decisions))

    def on_latency(self, row: Experience, appended_ms: int) -> None:
        """How long after its decision an experience was on its topic; each row counts once."""
        last = self._last_sampled.get(row.origin.partition)
        if last is not None and row.origin <= last:
            return
        self._last_sampled[row.origin.partition] = row.origin
        if self._latencies_seen % self._latency_every == 0:
            self.latencies_ms.append(float(appended_ms - row.decision_time_ms))
        self._latencies_seen += 1
        if len(self.latencies_ms) > MAX_LATENCIES:
            # Those that come are thinned as well, or the run's end would count double.
            del self.latencies_ms[1::2]
            self._latency_every *= 2

    @property
    def decisions(self) -> int:
        """Decisions that the rewards fold has accepted."""
        return sum(mark.n_decisions for mark in self.watermarks.values())

    @property
    def experiences(self) -> int:
        """Decisions that are settled."""
        return sum(mark.n_settled for mark in self.watermarks.values())

    @property
    def open_decisions(self) -> int:
        """Decisions that wait for their outcome or horizon."""
        return sum(mark.n_open for mark in self.watermarks.values())

    @property
    def latency_p95_ms(self) -> float | None:
        """The 95th percentile of the sampled latencies, decision to experience."""
        if not self.latencies_ms:
            return None
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)]

    def cpu_s(self) -> dict[str, float]:
        """Seconds of processor time by process, those that were killed included."""
        total: dict[str, float] = {}
        for (name, _), seconds in self.cpu.items():
            total[name] = round(total.get(name, 0.0) + seconds, 1)
        return total

    def metric(self, name: str, process: str | None = None) -> float | None:
        """The last value of a metric, of one process or of whichever has it."""
        for held, values in self.metrics.items():
            if (process is None or held.startswith(process)) and name in values:
                return values[name]
        return None
