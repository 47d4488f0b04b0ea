"""Which errors are told in one line: they say themselves what must be and what was got."""

NO_BROKER = frozenset({"KafkaConnectionError", "NoBrokersAvailable"})
SPEAKING = frozenset(
    {
        "ArchiveError",
        "BacktestError",
        "BootstrapError",
        "BrokerError",
        "BusyError",
        "DatabaseError",
        "EngineError",
        "ExportError",
        "LearnError",
        "LearnerFencedError",
        "PolicyError",
        "PrivacyError",
        "QueryError",
        "ReadError",
        "ReplayError",
        "SupervisorError",
        "TickerError",
        "TopicError",
        "UnknownProcess",
        "WorkerError",
        "WriteError",
    }
)
"""By name, so that telling them does not load what raises them."""


def is_no_broker(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that no broker answers."""
    while error is not None:
        if _names(error) & NO_BROKER:
            return True
        error = error.__cause__ or error.__context__
    return False


def speaks_for_itself(error: BaseException) -> bool:
    """Whether the error's text is enough for whoever runs the command."""
    return bool(_names(error) & SPEAKING)


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
