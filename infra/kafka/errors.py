"""What can go wrong around the local broker."""


class BrokerError(Exception):
    """The local broker could not do what was asked; the message holds the reason and the remedy."""
