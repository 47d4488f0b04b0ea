"""The second sink: settled experience as rows of TimescaleDB, or of PostgreSQL without it."""
