"""A session fed from a list of windows, as a process does it from the log; also to be killed.

python -m tests.learners.training.continued ROOT
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import torch

from learners.replay.rows import WindowError
from learners.training.continuous import ContinuousSession, ContinuousSessions
from learners.training.retrain import RetrainRule
from schemas.model_events import Registered, encode_model_event
from schemas.records import Window, decode_window, encode_window
from tests.learners.training import logged

TYPES = ["combat_dqn", "soft_actor_critic"]
RULE = RetrainRule(rows=400, keep_rows=800, updates=12)
KEY = f"{logged.GAME}/mage"


def sessions(root: Path, rule: RetrainRule = RULE) -> ContinuousSessions:
    return ContinuousSessions(
        place=logged.place(root), archetypes=["mage"], types=TYPES, source=logged.SOURCE,
        rule=rule,
    )  # fmt: skip


def work_off(
    session: ContinuousSession, champions: dict[str, str], chunk_s: float = 0.02
) -> Iterator[Registered]:
    """Do what a process does while a session is busy; yields what it would announce."""
    while session.busy:
        if session.asks:
            session.answer(champions)
        version = session.work(chunk_s)
        if version is not None:
            yield version
            session.announced()


def feed(
    root: Path, windows: list[Window], rule: RetrainRule = RULE
) -> tuple[ContinuousSession, list[Registered], list[str]]:
    """Take every window behind the cursor; returns the versions and why windows were refused."""
    opened = sessions(root, rule)
    session = opened.open(KEY, torch.device("cpu"))
    versions: list[Registered] = []
    refused: list[str] = []
    versions += work_off(session, {})
    for offset in range(opened.resume_offset(KEY, 0), len(windows)):
        try:
            session.take(windows[offset], 0, offset)
        except WindowError as error:
            refused.append(str(error))
        versions += work_off(session, {})
    session.save()
    return session, versions, refused


def main() -> None:
    """Feed the windows that are listed in a file; write what would be announced."""
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    listed = [decode_window(line) for line in (root / "windows").read_bytes().splitlines()]
    opened = sessions(root)
    session = opened.open(KEY, torch.device("cpu"))
    with (root / "announced").open("ab", buffering=0) as out:

        def announce() -> None:
            for version in work_off(session, {}):
                out.write(encode_model_event(version) + b"\n")

        announce()
        for offset in range(opened.resume_offset(KEY, 0), len(listed)):
            session.take(listed[offset], 0, offset)
            announce()
    session.save()


def list_windows(root: Path, windows: list[Window]) -> None:
    (root / "windows").write_bytes(b"\n".join(encode_window(window) for window in windows))


def announced(root: Path) -> list[Registered]:
    path = root / "announced"
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return [msgspec.json.decode(line, type=Registered) for line in lines if line.endswith(b"}")]


if __name__ == "__main__":
    main()
