"""Backtests of the champion and the baselines."""
