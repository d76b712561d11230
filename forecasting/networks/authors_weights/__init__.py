"""Weights that the paper's authors published."""
