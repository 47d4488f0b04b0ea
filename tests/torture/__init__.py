"""Breaks engine workers under load and proves that nothing is lost, doubled or miscounted."""
