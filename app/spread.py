"""Which of many leads or frames are shown."""

import numpy as np


def spread(count: int, most: int) -> list[int]:
    """Returns which of `count` to show: all, or `most` of them from the first to the last."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]
