"""Videos as arrays: decoded by PyAV, resized by its swscale.

A frame is reduced by the mean of the area that a pixel covers and enlarged bilinearly, so that no
value leaves the range of the frame's own; whole numbers are rounded the same on every machine. Gray
is luma in its full range: what a video stores as 16 to 235 becomes 0 to 255, as in the images that
others cut from such videos.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from data.errors import FlowcastError

if TYPE_CHECKING:
    import av

FORMATS = "avi,mov,mp4"  # playlists and the like, which open other files, are not among them
LOST = 2  # frames at the end that some encoders declare and never write


@dataclass(frozen=True)
class Limits:
    """What a video may cost.

    Attributes:
        frames: that it may have.
        bytes: that its frames may have as they are returned.
        pixels: that a frame may have in the file.
    """

    frames: int = 100_000
    bytes: int = 4 * 2**30
    pixels: int = 4096 * 4096


LIMITS = Limits()


def need_pyav() -> None:
    """Refuses to go on where PyAV is not installed.

    Raises:
        FlowcastError: it is not.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise FlowcastError(
            f"videos are read by PyAV, which cannot be loaded ({error}); "
            f"run: pip install 'flowcast[video]'"
        ) from error


def decode(
    path: Path,
    size: tuple[int, int],
    channels: Literal[1, 3],
    *,
    every: int = 1,
    middle: float = 1.0,
    limits: Limits = LIMITS,
) -> np.ndarray:
    """Returns the frames of a video, uint8 `(frame, channel, y, x)`.

    Args:
        path: of an AVI, MP4 or QuickTime file.
        size: rows and columns of the frames returned; their shape is not kept, as in the benchmarks.
        channels: 1 for gray, 3 for red, green, blue.
        every: frames from one that is returned to the next; the first one is.
        middle: part of the height and of the width that is kept, in the middle, before resizing.
        limits: what the video may cost.

    Raises:
        FlowcastError: it is no video, is damaged, ends too soon, costs more than the limits, or
            PyAV is not installed.
    """
    need_pyav()
    import av

    frames: list[np.ndarray] = []
    most = min(limits.frames, limits.bytes // (channels * size[0] * size[1]))
    try:
        for frame in islice(_frames(path, limits), 0, None, every):
            if len(frames) == most:
                raise FlowcastError(
                    f"{path} has more than the {most:,} frames of {size[0]} x {size[1]} that a "
                    f"video may have; cut it into several"
                )
            frames.append(_resized(_cut(frame, middle), size, channels))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _damaged(path, getattr(error, "strerror", None) or str(error)) from error
    if not frames:
        raise _damaged(path, "it has no frame")
    return np.stack(frames)


def _frames(path: Path, limits: Limits) -> Iterator[av.VideoFrame]:
    """Gives the frames of a video's first stream of pictures as they are."""
    import av

    whitelists = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    with av.open(path, options=whitelists) as container:
        if not container.streams.video:
            raise ValueError("it has no pictures")
        stream = container.streams.video[0]
        if not 0 < stream.width * stream.height <= limits.pixels:
            raise ValueError(f"its frames are {stream.width} x {stream.height}")
        stream.codec_context.options = {"max_pixels": str(limits.pixels)}
        count = 0
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise ValueError(f"it breaks off after {count} of {stream.frames} frames")
            for frame in packet.decode():
                count += 1
                yield frame
        if count < stream.frames - LOST:
            raise ValueError(f"it ends after {count} of {stream.frames} frames")


def _damaged(path: Path, why: str) -> FlowcastError:
    return FlowcastError(f"{path} is no video, or damaged ({why}); get it anew from its source")


def _cut(frame: av.VideoFrame, middle: float) -> av.VideoFrame:
    """Returns the middle of a frame."""
    if middle == 1:
        return frame
    left, top, right, bottom = middle_of(frame.width, frame.height, middle)
    pixels = frame.to_ndarray(format="rgb24")[top:bottom, left:right]
    kept: npt.NDArray[np.uint8] = np.ascontiguousarray(pixels, dtype=np.uint8)
    return type(frame).from_ndarray(kept, format="rgb24")


def middle_of(width: int, height: int, part: float) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of the middle of a frame, `part` of each side."""
    left, top = (round(side * (1 - part) / 2) for side in (width, height))
    return left, top, width - left, height - top


def _resized(frame: av.VideoFrame, size: tuple[int, int], channels: Literal[1, 3]) -> np.ndarray:
    """Returns a frame as `(channel, y, x)`."""
    from av.video.reformatter import Interpolation

    exactly = Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT
    resized = frame.reformat(
        width=size[1],
        height=size[0],
        format="gray" if channels == 1 else "rgb24",
        interpolation=Interpolation.AREA | exactly,
        threads=1,
    ).to_ndarray()
    return resized[np.newaxis] if channels == 1 else resized.transpose(2, 0, 1)
