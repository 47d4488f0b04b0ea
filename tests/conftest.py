"""Fixtures for every test: a real broker for the session, and topic names of the test's own."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from infra.kafka.broker import LocalBroker
from tests.lanes import Lanes, heaviest_first

ROOT = Path(__file__).parents[1]

# The same examples in every run: what one run has proven, the next one does not find broken.
settings.register_profile("seeded", derandomize=True)
settings.load_profile("seeded")


def pytest_configure() -> None:
    """A port that was set is for the broker of a run; the tests start several, two at a time."""
    os.environ.pop("GRINDSTONE_KAFKA_PORT", None)


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes | None:
    """Lanes, unless the command line asks for another distribution."""
    return Lanes(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The order in which lanes take the tests; a run in one process keeps its own."""
    if hasattr(config, "workerinput"):
        heaviest_first(items)


def pytest_collection_finish() -> None:
    """What all tests have imported stays: no collection needs to look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder of this test run inside the checkout, removed at its end."""
    parent = ROOT / ".grindstone"
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="test-", dir=parent))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def broker(scratch: Path) -> Iterator[str]:
    """The address of a real broker: GRINDSTONE_TEST_BOOTSTRAP, or one that lives for this lane."""
    given = os.environ.get("GRINDSTONE_TEST_BOOTSTRAP")
    if given:
        yield given
        return
    own = LocalBroker(scratch / "broker")
    try:
        yield own.start()
    finally:
        own.wipe()


@pytest.fixture
def topics_prefix(request: pytest.FixtureRequest) -> str:
    """A prefix for topics, groups and transactional ids that no other test has."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return f"t-{name[:40]}-{uuid.uuid4().hex[:8]}-"
