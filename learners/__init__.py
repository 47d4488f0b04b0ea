"""Learners: replay windows in, model versions out. The only package that knows torch."""
