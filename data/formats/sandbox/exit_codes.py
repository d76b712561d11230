"""What the child process and its parent both know; without h5py, which only the child loads."""

GIB = 2**30
REFUSED = 3
"""Exit code of a file that is refused; stderr says why."""
OTHER_FORMAT = 4
"""Exit code of a file that another reader reads."""
