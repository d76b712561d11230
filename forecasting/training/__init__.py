"""Training of a network: loop, step, state, checkpoints, budget."""
