"""A small strategy world: four tribes that build, march, trade and remember."""
