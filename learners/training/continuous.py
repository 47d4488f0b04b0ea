"""Types that keep training from live windows: an archetype's windows in, versions out.

No Kafka here. What is done is a function of the windows, in the log's order, and of the champions
that were named when a retraining began; that choice is written down before any work is done. So a
session that is killed at any moment goes on to the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import msgspec
import torch

from learners.checkpoint import Cursor
from learners.export import ExportError
from learners.folders import CheckpointError, read_state, write_folder
from learners.model_types.base import LearnError, wants_maps
from learners.model_types.registry import model_type
from learners.replay.rows import WindowError
from learners.session import Taken
from learners.training.choice import choose, with_choice
from learners.training.plan import Plan, WarmStart, settings_of
from learners.training.publish import Place, publish, version_number
from learners.training.retrain import ModelState, Retraining, RetrainRule, SessionState
from learners.training.rows import rows_digest
from learners.training.run import Hooks, Training
from learners.training.steps import Source
from learners.training.weights import Weights
from schemas.model_events import Registered
from schemas.practice import Episodes
from schemas.records import Window

_STATE = "state"


class ContinuousSession:
    """The types of one archetype; a process asks it for one chunk of work after the other."""

    def __init__(
        self,
        place: Place,
        archetype: str,
        types: Sequence[str],
        source: Source,
        rule: RetrainRule,
    ) -> None:
        """Go on from where an earlier session was.

        Raises:
            LearnError: a type is unknown, or the game's windows have nothing for it.
        """
        self._place, self._source, self._rule = place, source, rule
        self._archetype = archetype
        self._kinds = {name: model_type(name) for name in types}
        self._reads = {name: source.name(kind) for name, kind in self._kinds.items()}
        self._readers = {
            self._reads[name]: source.reader(kind, place.archive)
            for name, kind in self._kinds.items()
        }
        self.refused: list[str] = []
        self._rows: list[dict[str, Sized]] = []
        """Of each window, by what is read of it."""
        self._training: Training | None = None
        self.pending: Registered | None = None
        self.state = self._resume()

    # -- what a process sees of any session

    @property
    def cursor(self) -> Cursor:
        """How far it has come in the log of windows."""
        return self.state.cursor

    @property
    def labels(self) -> dict[str, str]:
        """Return what its metrics are labelled with."""
        return {"model": f"{self._place.game}-{self._archetype}", "game": self._place.game}

    @property
    def models(self) -> list[str]:
        """Return the names of the models that it makes versions of."""
        return [self._place.model(self._archetype, name) for name in self._kinds]

    @property
    def asks(self) -> list[str]:
        """Return models whose champion is wanted before the work goes on."""
        return self.models if self.state.due and self.state.now is None else []

    @property
    def snapshot(self) -> dict[str, float]:
        """Return what the metrics say."""
        models = self.state.models
        training = self._training
        running = training.progress.n_updates if training is not None else 0
        return {
            "updates": float(sum(m.updates for m in models.values()) + running),
            "owed_updates": float(len(self.state.due)),
            "windows": float(len(self.state.windows)),
            **{f"new_rows_{name}": float(m.n_new) for name, m in models.items()},
            **{f"version_{name}": float(m.number) for name, m in models.items()},
        }

    def take(self, window: Window, partition: int, offset: int) -> Taken:
        """Take the window announced at an offset; see `learners.session.ModelSession.take`.

        Raises:
            WindowError: the window cannot be trained on; the cursor has moved past it.
        """
        cursor = self.state.cursor
        if cursor.partition == partition and offset < cursor.next_offset:
            return "passed"
        source = str(window.partition)
        last = (window.last_origin.offset, window.last_origin.index)
        repeated = last <= cursor.last_windows.get(source, (-1, -1))
        seen = cursor.last_windows if repeated else {**cursor.last_windows, source: last}
        self.state.cursor = Cursor(
            partition=partition, next_offset=offset + 1, last_windows=seen,
            n_registered=cursor.n_registered,
        )  # fmt: skip
        if repeated:
            return "repeated"
        self._add(window, self._read(window))
        return "folded"

    @property
    def busy(self) -> bool:
        """Whether a model is to be retrained or a version waits to be announced."""
        return self.pending is not None or bool(self.state.due)

    def answer(self, champions: Mapping[str, str]) -> None:
        """Begin the next retraining from its champion (version by model), else from its newest."""
        name = self.state.due[0]
        state = self._model(name)
        try:
            self.state.now = self._decide(
                name, champions.get(self._place.model(self._archetype, name))
            )
        except LearnError as error:
            self._put_off(name, str(error))
        else:
            state.n_new, state.refused = 0, ""
            state.trained_ms = self.state.windows[-1].max_time_ms
        self.save()

    def work(self, seconds: float) -> Registered | None:
        """Train for about so long; returns a version to announce, if one is made.

        The time only decides where to pause, never what is computed.
        """
        if self.pending is not None or self.state.now is None:
            return self.pending
        try:
            training = self._begun(self.state.now)
            deadline = time.monotonic() + seconds
            if training.run(Hooks(stop=lambda: time.monotonic() >= deadline)):
                self.pending = publish(
                    training, self._source.layout, self._place, self._told(self.state.now),
                    self._model(training.plan.type).number + 1,
                )  # fmt: skip
        except (LearnError, ExportError) as error:
            self._put_off(self.state.due[0], str(error))
            self.save()
        return self.pending

    def announced(self) -> None:
        """Take note that the pending version is on `models`."""
        training, pending = self._training, self.pending
        if training is None or pending is None:
            return
        state = self._model(training.plan.type)
        state.number = version_number(pending.version)
        state.updates += training.progress.n_updates
        cursor = self.state.cursor
        self.state.cursor = Cursor(
            partition=cursor.partition, next_offset=cursor.next_offset,
            last_windows=cursor.last_windows, n_registered=cursor.n_registered + 1,
        )  # fmt: skip
        self._end_retraining()
        self.pending = None
        self.save()
        training.forget()

    def save(self) -> None:
        """Write down where it is."""
        if self.state.cursor.partition >= 0:
            data = msgspec.json.encode(self.state)
            write_folder(self._folder / _STATE, {"state.json": data})

    # -- within

    @property
    def _folder(self) -> Path:
        return continuous_folder(self._place, self._archetype)

    def _resume(self) -> SessionState:
        try:
            state = read_state(self._folder / _STATE, SessionState)
        except CheckpointError as error:
            if (self._folder / _STATE).exists():
                self.refused.append(str(error))
            return SessionState()
        windows, state.windows = state.windows, []
        for window in windows:
            try:
                rows = self._read(window)
            except WindowError as error:
                self.refused.append(f"kept window: {error}")
            else:
                state.windows.append(window)
                self._rows.append(rows)
        state.due = [name for name in state.due if name in self._kinds]
        if state.now is not None and state.now.plan.type not in self._kinds:
            state.now = None
        return state

    def _model(self, name: str) -> ModelState:
        return self.state.models.setdefault(name, ModelState())

    def _read(self, window: Window) -> dict[str, Sized]:
        return {name: reader.read(window) for name, reader in self._readers.items()}

    def _add(self, window: Window, rows: dict[str, Sized]) -> None:
        state, rule = self.state, self._rule
        state.windows.append(window)
        self._rows.append(rows)
        for name in self._kinds:
            model = self._model(name)
            model.n_new += len(rows[self._reads[name]])
            model.trained_ms = model.trained_ms or window.min_time_ms
            late = window.max_time_ms - model.trained_ms >= rule.span_ms
            if name not in state.due and (model.n_new >= rule.rows or (late and model.n_new)):
                state.due.append(name)
        self._forget()

    def _forget(self) -> None:
        """Let the oldest windows go that no type needs for its newest rows."""
        while len(self._rows) > 1 and all(
            sum(len(rows[read]) for rows in self._rows[1:]) >= self._rule.keep_rows
            for read in self._readers
        ):
            del self._rows[0], self.state.windows[0]

    def _episodes(self, name: str) -> Episodes:
        read = self._reads[name]
        maps = wants_maps(self._kinds[name], self._source.layout)
        return self._readers[read].episodes([rows[read] for rows in self._rows], maps=maps)

    def _decide(self, name: str, champion: str | None) -> Retraining:
        rule, kind, state = self._rule, self._kinds[name], self._model(name)
        rows = self._episodes(name)
        newest = int(rows.policy_version.max(initial=0))
        choice = choose(kind, rows, max(state.number, newest), rule.way)
        settings = with_choice(kind.preset(rule.preset), choice) | {"updates": rule.updates}
        settings_of(kind, settings)
        begun_from = champion or (f"v{state.number:04d}" if state.number else None)
        model = self._place.model(self._archetype, name)
        warm = WarmStart(versions={self._archetype: f"{model}@{begun_from}"})
        plan = Plan(
            type=name, archetypes=[self._archetype], preset=rule.preset, settings=settings,
            seed=rule.seed + state.number, device="cuda" if rule.device == "cuda" else "cpu",
            judge_every=max(1, rule.updates // 4), curriculum=None,
            rows={self._archetype: self._rows_told(rows)},
            warm=warm if begun_from is not None else None,
        )  # fmt: skip
        return Retraining(
            plan=plan, choice=choice, windows=[w.window_id for w in self.state.windows]
        )

    def _rows_told(self, rows: Episodes) -> dict[str, Any]:
        offsets: dict[str, tuple[int, int]] = {}
        for window in self.state.windows:
            first, last = window.first_origin.offset, window.last_origin.offset
            known = offsets.get(str(window.partition), (first, last))
            offsets[str(window.partition)] = (min(known[0], first), max(known[1], last))
        versions = {v for window in self.state.windows for v in window.reward_versions}
        return {
            "source": "windows", "game": self._place.game, "n_rows": len(rows),
            "digest": rows_digest(rows), "offsets": offsets, "reward_versions": sorted(versions),
            "windows": [msgspec.to_builtins(window) for window in self.state.windows],
        }  # fmt: skip

    def _begun(self, now: Retraining) -> Training:
        """Return the training under way, from its newest checkpoint after a restart."""
        if self._training is None:
            if [window.window_id for window in self.state.windows] != now.windows:
                msg = "the windows that it was decided on must be there; got others"
                raise LearnError(msg)
            warm = now.plan.warm
            sources: dict[str, Weights] = (
                {a: self._place.weights(name) for a, name in warm.versions.items()} if warm else {}
            )
            self._training = Training(
                now.plan, self._source.layout, [self._episodes(now.plan.type)], None,
                self._folder / "trainings", sources,
            )  # fmt: skip
            self.refused += self._training.refused
        return self._training

    def _told(self, now: Retraining) -> dict[str, Any]:
        windows = self.state.windows
        return {
            "choice": msgspec.to_builtins(now.choice), "n_windows": len(windows),
            "last_window": windows[-1].window_id if windows else "",
        }  # fmt: skip

    def _put_off(self, name: str, why: str) -> None:
        """Wait for more windows: what there is cannot be learned from."""
        self.refused.append(f"{name}: {why}")
        self._model(name).refused = why
        self._end_retraining()

    def _end_retraining(self) -> None:
        self.state.now, self._training = None, None
        self.state.due = self.state.due[1:]


def continuous_folder(place: Place, archetype: str) -> Path:
    """Return where the session of an archetype keeps what it needs to go on."""
    return place.checkpoints / "continuous" / f"{place.game}-{archetype}"


class ContinuousSessions(msgspec.Struct, frozen=True, kw_only=True):
    """A `learners.sessions.Sessions` over the archetypes of a game."""

    place: Place
    archetypes: list[str]
    types: list[str]
    source: Source
    rule: RetrainRule = RetrainRule()

    def keys(self) -> list[str]:
        """Return the keys of `replay-windows` that are trained on."""
        return [f"{self.place.game}/{archetype}" for archetype in self.archetypes]

    def models(self, key: str) -> list[str]:
        """Return the models that the session of a key makes versions of."""
        archetype = key.partition("/")[2]
        return [self.place.model(archetype, name) for name in self.types]

    def writer(self, key: str) -> str:
        """Return the transactional id of a key's session, without prefix."""
        return f"learn-{key.replace('/', '-')}"

    def open(self, key: str, device: torch.device) -> ContinuousSession:
        """Open a session where an earlier one was."""
        del device  # the rule names it: it is part of what makes equal weights
        return ContinuousSession(
            self.place, key.partition("/")[2], self.types, self.source, self.rule
        )

    def resume_offset(self, key: str, partition: int) -> int:
        """Return from which offset of a partition a key needs its windows; 0: from the first."""
        folder = continuous_folder(self.place, key.partition("/")[2])
        try:
            cursor = read_state(folder / _STATE, SessionState).cursor
        except CheckpointError:
            return 0
        return cursor.next_offset if cursor.partition == partition else 0
