"""Connectors to games, scripted opponents and the matches that judge a policy."""
