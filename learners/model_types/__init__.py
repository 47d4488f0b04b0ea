"""The model types: one small module each, found by the registry."""
