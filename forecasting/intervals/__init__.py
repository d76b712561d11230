"""Prediction intervals and their coverage."""
