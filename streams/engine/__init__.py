"""The partition engine: folds a topic, one fenced transaction a batch."""

from streams.engine.engine import PartitionEngine
from streams.engine.fatal import EXIT_FATAL, EXIT_FENCED
from streams.engine.records import (
    OFFSET_KEY,
    Batch,
    Effects,
    FoldFactory,
    Output,
    PartitionFold,
    Record,
    Table,
)
from streams.engine.settings import EngineError, EngineSettings
from streams.engine.stats import EngineStats

__all__ = [
    "EXIT_FATAL",
    "EXIT_FENCED",
    "OFFSET_KEY",
    "Batch",
    "Effects",
    "EngineError",
    "EngineSettings",
    "EngineStats",
    "FoldFactory",
    "Output",
    "PartitionEngine",
    "PartitionFold",
    "Record",
    "Table",
]
