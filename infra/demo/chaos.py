"""What a chaos run kills, and when: a plan drawn once from the seed."""

import random
from collections.abc import Iterator, Sequence

EVERY_S = 20.0
BROKER = "broker"


def plan(seed: int, names: Sequence[str], broker_at: int) -> Iterator[str]:
    """Names to kill, one every `EVERY_S`: round robin in an order drawn by the seed.

    The broker takes the place number `broker_at`, once.
    """
    order = list(names)
    random.Random(seed).shuffle(order)
    n = 0
    while True:
        for name in order:
            if n == broker_at:
                yield BROKER
                n += 1
            yield name
            n += 1
