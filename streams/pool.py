"""Work spread over processes that end with the one that started them, however it ends."""

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, TypeVar

J = TypeVar("J")
R = TypeVar("R")
Tell = Callable[[Any], None]
Work = Callable[[J, Tell], R]

_LOOK_S = 0.2
_STOP_S = 5.0


class WorkerError(RuntimeError):
    """A process ended before its work did."""


def run_each(
    jobs: Sequence[J],
    work: Work[J, R],
    processes: int | None = None,
    on_progress: Tell | None = None,
    preload: Sequence[str] = (),
) -> list[R]:
    """What `work(job, tell)` returns for each job, in the jobs' order.

    One process a job, as many at a time as there are cores or as `processes` says. `tell` takes
    what `on_progress` is to be given here. A single process is this one. Ctrl-C ends all of them.
    Modules of `preload` are imported once for all processes.

    Raises:
        WorkerError: a process was killed.
        Exception: what `work` raised.
    """
    tell = on_progress or (lambda _: None)
    n = min(processes or os.cpu_count() or 1, len(jobs))
    if n <= 1:
        return [work(job, tell) for job in jobs]
    return _Pool(jobs, work, n, tell, keep_going=False, preload=preload).run()


def run_all(
    jobs: Sequence[J],
    work: Work[J, R],
    processes: int | None = None,
    on_progress: Tell | None = None,
    preload: Sequence[str] = (),
) -> list[R | Exception]:
    """What `run_each` returns, with the error of a job that failed in its place: none ends another.

    Every job runs in a process of its own, also where there is one at a time: a process that is
    killed for its memory takes no other job with it. Modules of `preload` are imported once, before
    the first job: a job that begins an hour later runs the same code as the first one.
    """
    n = max(1, min(processes or os.cpu_count() or 1, len(jobs)))
    tell = on_progress or (lambda _: None)
    return _Pool(jobs, work, n, tell, keep_going=True, preload=preload).run()


class _Pool:
    def __init__(
        self,
        jobs: Sequence[Any],
        work: Work[Any, Any],
        n: int,
        tell: Tell,
        *,
        keep_going: bool,
        preload: Sequence[str] = (),
    ) -> None:
        # Forking this process could hang, for it may have threads.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([work.__module__, *preload])
        _start_server()
        self._told: Any = self._context.Queue()
        self._todo = list(enumerate(jobs))[::-1]
        self._work = work
        self._n = n
        self._tell = tell
        self._keep_going = keep_going
        self._running: dict[int, BaseProcess] = {}
        self._results: dict[int, Any] = {}

    def run(self) -> list[Any]:
        try:
            while self._todo or self._running:
                while self._todo and len(self._running) < self._n:
                    self._start(*self._todo.pop())
                gone = [at for at, p in self._running.items() if p.exitcode is not None]
                self._listen()
                for at in gone:  # it has said before its end what it had to say
                    self._bury(at)
        finally:
            self._stop()
        return [self._results[at] for at in sorted(self._results)]

    def _start(self, at: int, job: Any) -> None:
        process = self._context.Process(
            target=_run, args=(self._work, at, job, self._told), daemon=True
        )
        with _ctrl_c_waits():  # a process that is running but not known would outlive us
            process.start()
            self._running[at] = process

    def _listen(self) -> None:
        timeout = _LOOK_S
        while True:
            try:
                at, kind, said = self._told.get(timeout=timeout)
            except queue.Empty:
                return
            timeout = 0.0
            if kind == "progress":
                self._tell(said)
            elif kind == "done":
                self._results[at] = said
            else:
                self._fail(at, pickle.loads(said))

    def _fail(self, at: int, error: Exception) -> None:
        if not self._keep_going:
            raise error
        self._results[at] = error

    def _bury(self, at: int) -> None:
        process = self._running.pop(at)
        if at not in self._results:
            msg = (
                f"a process must finish its work; it ended with {process.exitcode} (out of memory?)"
            )
            self._fail(at, WorkerError(msg))

    def _stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.join(_STOP_S)
            if process.exitcode is None:
                process.kill()
        self._told.close()


def _start_server() -> None:
    """Start the server that processes are forked from, deaf to Ctrl-C from its first moment.

    It keeps the mask that it is started with; here a Ctrl-C only waits until it is started. The
    resource tracker comes first: whoever starts it lets Ctrl-C through again (`ensure_running`).
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Handle a Ctrl-C that comes inside only at the end.

    By the handler, for the kernel would give a signal that this thread masks to another one.
    """
    if threading.current_thread() is not threading.main_thread():  # no other one is interrupted
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


def _run(work: Work[Any, Any], at: int, job: Any, told: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us, so that one message is told
    _end_with_starter()
    try:
        result = work(job, lambda said: told.put((at, "progress", said)))
    except Exception as error:
        told.put((at, "failed", _pickled(error)))
    else:
        told.put((at, "done", result))


def _end_with_starter() -> None:
    """Have this process end with the one whose work it does, however that ends.

    The kernel's own means asks for the parent, which is the server that we are forked from; and
    the server lives as long as we do.
    """
    starter = multiprocessing.parent_process()
    if starter is None:  # not a process of a pool
        return
    gone = starter.sentinel

    def watch() -> None:
        connection.wait([gone])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _pickled(error: Exception) -> bytes:
    with contextlib.suppress(Exception):
        data = pickle.dumps(error)
        pickle.loads(data)
        return data
    return pickle.dumps(WorkerError(f"{type(error).__name__}: {error}"))
