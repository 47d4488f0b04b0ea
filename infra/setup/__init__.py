"""The set-up: shell scripts, and what they need of Python."""
