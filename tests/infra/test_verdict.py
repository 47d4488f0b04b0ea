"""The final verdict plays seeds of its own, in a process of its own."""

import subprocess
import sys

import msgspec

from infra.demo import chaos
from infra.demo.runner import early
from infra.demo.verdict import Request, Score, judge
from infra.settings import Settings


def test_judge_plays_the_same_matches_each_time() -> None:
    request = Request(game="games/battle/battle.toml", seed=1, learned=None, first=None, n_seeds=2)
    once, again = judge(request), judge(request)
    assert once == again
    assert [score.policy for score in once] == ["scripted", "random"]
    assert all(score.n == 4 for score in once)


def test_the_verdicts_process_answers_on_stdout() -> None:
    request = Request(game="games/battle/battle.toml", seed=1, learned=None, first=None, n_seeds=1)
    done = subprocess.run(
        [sys.executable, "-m", "infra.demo.verdict"],
        input=msgspec.json.encode(request),
        capture_output=True,
        check=True,
    )
    assert msgspec.json.decode(done.stdout, type=list[Score]) == judge(request)


def test_chaos_takes_everyone_in_turn_and_the_broker_once() -> None:
    names = ["a", "b", "c"]
    plan = chaos.plan(7, names, broker_at=2)
    first = [next(plan) for _ in range(10)]
    assert first.count(chaos.BROKER) == 1
    assert first[2] == chaos.BROKER
    rest = [name for name in first if name != chaos.BROKER]
    assert sorted(rest[:3]) == names
    assert rest[3:6] == rest[:3]
    again = chaos.plan(7, names, broker_at=2)
    assert first == [next(again) for _ in range(10)]


def test_the_sink_runs_with_a_demo_that_has_a_database() -> None:
    plain = Settings()
    assert early(plain) == ["game", "rewards", "ticker", "archiver"]
    assert early(msgspec.structs.replace(plain, sink="timescale"))[-1] == "sink"
