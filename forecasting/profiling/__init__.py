"""Cost, memory and machine."""
