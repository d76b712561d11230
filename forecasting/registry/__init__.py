"""Versions of models on disk."""
