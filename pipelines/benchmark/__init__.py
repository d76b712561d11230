"""Networks on the datasets of the field."""
