"""Replay: rows of windows, n-step transitions, the prioritised ring."""

from learners.replay.buffer import Batch, PrioritisedReplay
from learners.replay.nstep import NStepAssembler, Sources, Transitions
from learners.replay.rows import WindowError, WindowReader, WindowRows, rows_of_table
from learners.replay.sumtree import SumTree

__all__ = [
    "Batch",
    "NStepAssembler",
    "PrioritisedReplay",
    "Sources",
    "SumTree",
    "Transitions",
    "WindowError",
    "WindowReader",
    "WindowRows",
    "rows_of_table",
]
