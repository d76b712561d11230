"""The store: one database with the archive, forecasts, scores, runs and promotions."""
