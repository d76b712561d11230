"""The science of forecasting: forecasters, networks, training, metrics; no user interface, no clock."""
