"""One Kafka broker for this machine: its description, and how it is started and stopped."""
