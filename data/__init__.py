"""Arrays: what a flow is, how it is read, cut into windows and kept; no torch, no user interface."""
