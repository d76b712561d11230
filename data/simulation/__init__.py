"""A simulated city, whose noise is known."""
