"""Two lanes of tests, for two cores: systems of processes in one, all else beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling


class Lanes(LoadFileScheduling):  # type: ignore[misc]
    """Gives the first worker files from the front of the queue, every other from its end.

    Tests of whole systems wait a lot and keep more than a core busy in between. Two of them at a
    time would need more than two cores, and each is held to time-outs; one beside the tests that
    work alone leaves no core idle. The lanes meet in between.
    """

    # of xdist 3.8: `workqueue` holds the files that no worker has, in the order of the tests
    def _assign_work_unit(self, node: Any) -> None:
        if node is not self.nodes[0]:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


def heaviest_first(items: list[pytest.Item]) -> None:
    """Sorts in place: files with slow tests, those that talk to a broker, the rest; each as found.

    A file's tests stay together, in their order.
    """
    heavy = _files(items, "slow"), _files(items, "integration")
    items.sort(key=lambda item: next((i for i, f in enumerate(heavy) if item.path in f), 2))


def _files(items: Iterable[pytest.Item], marker: str) -> set[Path]:
    return {item.path for item in items if item.get_closest_marker(marker)}
