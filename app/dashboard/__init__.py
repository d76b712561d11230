"""The operators' dashboard: Streamlit pages that read the store and nothing else."""

REPLAYED = "FLOWCAST_REPLAYED"
"""Set where archives are played back: the end of a city's newest slot is the present then."""
SECRETS = "secrets.toml"
"""File of the home that sets up the sign-in, with a table `[auth]` as Streamlit wants it."""
REFRESH = "FLOWCAST_REFRESH"
"""Seconds after which pages read the store anew; 60."""
