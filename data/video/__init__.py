"""Video datasets of the paper, as clips of frames."""
