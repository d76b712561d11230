"""Gradient-boosted trees as a forecaster."""
