"""Training of one model type for several archetypes as one stack: see `learners.training.run`."""
