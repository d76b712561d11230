"""Text and pixels to objects and back: the command line and its charts."""

import gc

# Imports make a hundred thousand objects, all of which stay: looking for garbage among them took a
# sixth of a cold start.
gc.set_threshold(100_000, 50, 100)
