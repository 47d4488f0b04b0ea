"""Weights of single models of a stack: best ones kept, versions written, other stacks begun."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import save
from torch import nn

from learners.model_types.base import LearnError, Stack

Weights = dict[str, torch.Tensor]


def stacked_weights(stack: Stack) -> Weights:
    """Return the live weights and buffers [S, ...] of all networks by ``network/name``."""
    return {
        f"{network}/{name}": value
        for network, module in sorted(stack.modules().items())
        for name, value in module.state_dict().items()
    }


def copies(weights: Weights) -> Weights:
    """Return copies that later updates leave alone."""
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def model_weights(stack: Stack, i: int) -> Weights:
    """Return copies of model i's weights, without S."""
    return {
        name: value[i].detach().cpu().clone().contiguous()
        for name, value in stacked_weights(stack).items()
    }


def digest_of(weights: Weights) -> str:
    """Return the SHA-256 of the weights' safetensors file."""
    return hashlib.sha256(save({k: v.contiguous() for k, v in weights.items()})).hexdigest()


def put_rows(into: Weights, taken: Weights, models: Sequence[bool]) -> None:
    """Copy the rows [i, ...] of those models for which ``models`` [S] is true."""
    rows = [i for i, wanted in enumerate(models) if wanted]
    with torch.no_grad():
        for name, value in into.items():
            value[rows] = taken[name][rows].to(value.device)


def take_weights(stack: Stack, i: int, source: Weights, layers: Sequence[str] = ()) -> list[str]:
    """Begin model i from another model's weights; returns the names taken.

    ``layers`` are beginnings of names; empty takes all. A weight that this type does not have or
    that has another shape is an error where it was named, and left out where all was taken.

    Raises:
        LearnError: nothing fits, or a named layer does not.
    """
    own, taken = stacked_weights(stack), []
    for layer in layers:
        if not any(name.startswith(layer) for name in own):
            known = ", ".join(sorted({name.rsplit(".", 1)[0] for name in own}))
            msg = f"--layer must begin a weight's name ({known}); got {layer!r}"
            raise LearnError(msg)
    with torch.no_grad():
        for name, value in own.items():
            if layers and not name.startswith(tuple(layers)):
                continue
            if name in source and source[name].shape == value.shape[1:]:
                value[i] = source[name].to(value.device, value.dtype)
                taken.append(name)
            elif layers:
                got = tuple(source[name].shape) if name in source else "no such weight"
                rule = f"of shape {tuple(value.shape[1:])}"
                msg = f"the source's {name} must be {rule}; got {got}"
                raise LearnError(msg)
    if not taken:
        msg = "the source must have weights of this type's shapes; got none that fits"
        raise LearnError(msg)
    return taken


def frozen_parameters(
    modules: Mapping[str, nn.Module], layers: Sequence[str]
) -> list[nn.Parameter]:
    """Return the parameters whose ``network/name`` begins with one of ``layers``.

    Raises:
        LearnError: a layer is the beginning of none.
    """
    named = {
        f"{network}/{name}": parameter
        for network, module in modules.items()
        for name, parameter in module.named_parameters()
    }
    for layer in layers:
        if not any(name.startswith(layer) for name in named):
            known = ", ".join(sorted({name.rsplit(".", 1)[0] for name in named}))
            msg = f"--freeze must begin a weight's name ({known}); got {layer!r}"
            raise LearnError(msg)
    return [p for name, p in named.items() if name.startswith(tuple(layers))] if layers else []
