"""Initial data for a new game or archetype: events on the log, which the ordinary fold settles."""
