"""Training of a city, by hand or at night."""
