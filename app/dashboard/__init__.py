"""The operators' dashboard: Streamlit pages that read the store and nothing else."""

REPLAYED = "FLOWCAST_REPLAYED"
"""Set where archives are played back: the end of a city's newest slot is the present then."""
REFRESH = "FLOWCAST_REFRESH"
"""Seconds after which pages read the store anew; 60."""
