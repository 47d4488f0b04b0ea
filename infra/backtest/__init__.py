"""History scored again under other rewards and horizons."""
