"""How much memory a training takes, on the card or in the process, and its cap."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import torch

from learners.model_types.base import LearnError

GB = 1e9


def used_bytes(device: torch.device) -> int:
    """Return what is held now: of the card where there is one, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(device: torch.device) -> int:
    """Return the most that was held at a time."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit_card(device: torch.device, cap_gb: float) -> None:
    """Let this process take no more than the cap of a card."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, cap_gb * GB / total), device)


def check_memory(device: torch.device, cap_gb: float, kind: str) -> int:
    """Return what is held now.

    Raises:
        LearnError: it is more than the cap.
    """
    used = used_bytes(device)
    if used > cap_gb * GB:
        msg = (
            f"--memory-gb must be at least {used / GB:.1f} for {kind} with these settings;"
            f" got {cap_gb:g} (a smaller --batch, fewer archetypes, or accumulate take less)"
        )
        raise LearnError(msg)
    return used


def told_device(device: str) -> dict[str, float]:
    """Return by TensorBoard's tag what is held of the device, and how busy a card is."""
    place = torch.device(device)
    told = {"device/memory_gb": used_bytes(place) / GB}
    if place.type == "cuda":
        try:
            told["device/utilisation"] = float(torch.cuda.utilization(place))
        except (ModuleNotFoundError, RuntimeError):
            pass  # the driver's library for it is not installed: memory is told all the same
    return told
