"""Threads, devices and half precision: what a training is run on."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import torch

from learners.algorithms import choose_device
from learners.training.plan import Plan
from learners.training.run import Training
from schemas.practice import Episodes, Layout

CLEARLY = 1.2
"""How many times as fast bfloat16 must be to be taken: it costs precision."""
_TRIED = 5


def use_threads(n: int) -> None:
    """Let this process compute on n threads."""
    torch.set_num_threads(n)


def device_name(asked: str) -> str:
    """Return "cpu" or "cuda" for "auto", "cpu" or "cuda".

    Raises:
        ValueError: CUDA was asked for and is not there.
    """
    device = choose_device(asked)
    if device.type == "cuda" and not torch.cuda.is_available():
        msg = "--device must be cpu or auto without a CUDA device; got cuda"
        raise ValueError(msg)
    return device.type


def describe(device: str) -> str:
    """Return the name of a device as reports give it."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def has_half(device: str) -> bool:
    """Return whether a device computes in bfloat16 at all; without, it would only be emulated."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported()) or bool(torch.cpu._is_amx_tile_supported())


def half_is_faster(plan: Plan, layout: Layout, rows: Sequence[Episodes]) -> bool:
    """Measure on stacks that are thrown away; what comes of it is written into the plan."""
    if not has_half(plan.device):
        return False
    seconds = {}
    for amp in (False, True):
        training = Training(msgspec.structs.replace(plan, amp=amp), layout, rows, None)
        for at in range(2 * _TRIED):
            if at == _TRIED:
                _settle(plan.device)
                began = time.perf_counter()
            training._update()
        _settle(plan.device)
        seconds[amp] = time.perf_counter() - began
    return seconds[True] * CLEARLY < seconds[False]


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
