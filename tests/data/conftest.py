"""What the tests of videos share."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def encode() -> Callable[..., Path]:
    """A function that writes frames as a video, without loss by default."""
    av = pytest.importorskip("av")

    def write(
        path: Path, frames: np.ndarray, pixels: str = "gray", codec: str = "ffv1", **options: str
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(path, "w") as container:
            stream = container.add_stream(codec, rate=Fraction(25), options=options)
            first = av.VideoFrame.from_ndarray(frames[0], format=pixels)
            stream.width, stream.height, stream.pix_fmt = first.width, first.height, pixels
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=pixels)
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        return path

    return write
