"""File formats of flow and weather, and what reads them."""
