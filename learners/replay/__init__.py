"""Replay: rows of windows, n-step transitions, prioritised rings for one model or several."""

from learners.replay.buffer import PrioritisedReplay
from learners.replay.form import Batch, RowForm, Sequences, Steps, steps_of
from learners.replay.rows import WindowError, WindowReader, WindowRows, rows_of_table
from learners.replay.stacked import StackedReplay
from learners.replay.sumtree import SumTree

__all__ = [
    "Batch",
    "PrioritisedReplay",
    "RowForm",
    "Sequences",
    "StackedReplay",
    "Steps",
    "SumTree",
    "WindowError",
    "WindowReader",
    "WindowRows",
    "rows_of_table",
    "steps_of",
]
