"""Networks compared on a city."""
