from __future__ import annotations

import pytest
import torch

from learners.model_types import registry


@pytest.fixture(autouse=True)
def _trivial_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._MODULES, "trivial", "tests.learners.model_types.trivial")
    torch.set_num_threads(1)
