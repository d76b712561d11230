"""The live forecast."""
