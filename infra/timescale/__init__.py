"""One database for this machine: TimescaleDB in a container or a Debian tree, or PostgreSQL."""
