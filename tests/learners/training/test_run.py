"""A training learns, resumes bit for bit, stops what has stopped getting better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from learners.folders import checkpoints
from learners.model_types.base import LearnError
from learners.training.plan import Plan, WarmStart
from learners.training.run import Hooks, Training
from learners.training.weights import digest_of, model_weights
from schemas.practice import Episodes
from tests.learners.model_types.toy import ToyWorld, toy_episodes
from tests.learners.model_types.trivial import TrivialSettings


def plan(**changes: Any) -> Plan:
    settings = changes.pop("settings", {})
    values = {**msgspec.to_builtins(TrivialSettings()), **settings}
    base = Plan(
        type="trivial", archetypes=["mage", "tank"], settings=values, judge_every=20,
        judge_matches=2, checkpoint_every=30,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def rows() -> list[Episodes]:
    return [toy_episodes(10, seed) for seed in (1, 2)]


def training(folder: Path | None = None, **changes: Any) -> Training:
    world = ToyWorld()
    return Training(plan(**changes), world.layout, rows(), world, folder)


def digests(found: Training) -> list[str]:
    return [digest_of(model_weights(found.stack, i)) for i in range(found.stack.n_models)]


def test_training_learns_the_toy_world_and_tells_it() -> None:
    done = training()
    told: list[str] = []
    assert done.run(Hooks(on_point=lambda point, kind: told.append(kind)))
    assert done.progress.n_updates == 200
    last = done.progress.judged[-1].values
    assert min(last["score"]) > 0.95
    assert max(last["loss"]) < 0.5 * min(last["trivial"])
    assert set(done.progress.curve[0].values) >= {"loss", "q_mean", "reward", "win_rate", "stage"}
    assert told.count("judged") == 10
    assert told.count("train") == 4


def test_training_is_a_function_of_its_plan() -> None:
    one, again, other = training(), training(), training(seed=2)
    for some in (one, again, other):
        some.run()
    assert digests(one) == digests(again)
    assert digests(one) != digests(other)


def test_training_stopped_anywhere_makes_the_same_weights(tmp_path: Path) -> None:
    whole = training()
    whole.run()
    left = iter([17, 30, 1, 45, 70, 10_000])
    finished = False
    n_runs = 0
    while not finished:
        some = training(tmp_path)
        assert not some.refused
        stop_at = some.progress.n_updates + next(left)
        n_runs += 1
        finished = some.run(Hooks(stop=lambda s=some, at=stop_at: s.progress.n_updates >= at))  # type: ignore[misc]
        if not finished and n_runs % 2:
            some.save()  # a clean stop; every other one is a kill
    assert digests(some) == digests(whole)
    assert some.progress.curve == whole.progress.curve
    assert some.progress.judged == whole.progress.judged
    assert len(checkpoints(tmp_path / plan().digest()[:16])) == 5


def test_training_passes_a_damaged_checkpoint_over(tmp_path: Path) -> None:
    some = training(tmp_path)
    some.run()
    newest, *_ = checkpoints(tmp_path / plan().digest()[:16])
    tensors = newest / "tensors.safetensors"
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(bytes(data))
    again = training(tmp_path)
    assert len(again.refused) == 1
    assert "SHA-256" in again.refused[0]
    assert 0 < again.progress.n_updates < 200
    again.run()
    assert digests(again) == digests(some)


def test_training_stops_a_model_on_its_plateau_alone() -> None:
    done = training(patience=2, judge_matches=0, settings={"updates": 2_000})
    done.run()
    assert set(done.progress.stopped_at) == {0, 1}
    assert done.progress.n_updates == max(done.progress.stopped_at.values()) < 2_000
    best = [-min(p.values["loss"][i] for p in done.progress.judged) for i in range(2)]
    np.testing.assert_allclose(done.plateau.best, best, rtol=1e-6)
    loss = done.stack.judge(done.held_out)["loss"]
    np.testing.assert_allclose(-loss, best, rtol=1e-5)  # the weights are those of the best


def test_training_begins_from_weights_and_leaves_frozen_ones() -> None:
    source = training()
    source.run()
    weights = model_weights(source.stack, 0)
    warm = WarmStart(versions={"tank": "mage"}, frozen=["q/last.weight"])
    world = ToyWorld()
    begun = Training(
        plan(warm=warm, settings={"updates": 20}), world.layout, rows(), world,
        sources={"tank": weights},
    )  # fmt: skip
    taken = model_weights(begun.stack, 1)
    assert all((taken[k] == weights[k]).all() for k in weights)
    begun.run()
    after = model_weights(begun.stack, 1)
    assert (after["q/last.weight"] == weights["q/last.weight"]).all()
    assert begun.progress.judged[0].update == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"learning_rate": -1.0}}, "learning_rate must be"),
        ({"type": "nothing"}, "type must be one of"),
        ({"warm": WarmStart(versions={}, frozen=["nowhere"])}, "--freeze must begin"),
        ({"archetypes": ["mage"]}, "rows must be those of 1 archetypes; got 2"),
        ({"memory_gb": 1e-3}, "--memory-gb must be at least"),
    ],
)
def test_training_refuses_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LearnError, match=message):
        training(**changes).run()


def test_training_names_the_model_whose_loss_is_not_finite() -> None:
    broken = training(settings={"learning_rate": 1e30, "grad_clip": 0.0})
    with pytest.raises(LearnError, match=r"trivial\.loss must be finite; got (nan|inf) for mage"):
        broken.run()
