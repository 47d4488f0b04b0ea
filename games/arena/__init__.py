"""A combat world for learners: packs of five, many matches at once as arrays."""
