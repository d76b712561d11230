"""Human3.6M: colored clips of actors, as images or as videos.

Images lie in folders, at any depth, and end in a number: `S1/Walking.54138969/000001.jpg`, or all in
one folder, `images/S1_Walking.54138969_000001.jpg`, as the archives at upenn unpack and OpenSTL
expects them. Those of one folder that differ in the last number only are a clip, in the order of
the numbers (000001, 000006, 000011, ... in those archives: 10 of 50 frames a second). Where a number
is missing, a clip ends and another begins. Videos are `S1/Videos/Walking.54138969.mp4`, at 50
frames per second.

Benchmarks in use, which differ: MIM (Wang et al., CVPR 2019) trains on the scenario Walking of S1,
S5, S6, S7, S8 and tests on S9, S11, at 128 x 128; its code keeps the middle half of the height and
width, takes every second image, and begins a window at every tenth image of training and every fifth
of testing. OpenSTL, after STRPM (CVPR 2022), takes all scenarios of all seven at 256 x 256 and draws
training and test windows from the same films, by lists of its own: those cannot be distinguished here.

The data may not be passed on; ask for it at http://vision.imar.ro/human3.6m.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.errors import FlowcastError
from data.video.clips import Clip, Clips, cached_clips, fingerprint
from data.video.decode import LIMITS, decode, middle_of, need_pyav

SITE = "http://vision.imar.ro/human3.6m"
IMAGES = (".jpg", ".jpeg", ".png")
VIDEOS = (".mp4", ".avi", ".mov")
SUBJECT = re.compile(r"(S\d+)(?:[_ ](.*))?")
NUMBERED = re.compile(r"(.*?)(\d{1,18})")


@dataclass(frozen=True)
class Human36M:
    """The two parts of the data set, red, green, blue.

    Attributes:
        train: clips of the subjects for training, by name.
        test: clips of the other subjects, by name.
    """

    train: Clips
    test: Clips


class Film(NamedTuple):
    """The files of one film: its images in their order, or its one video."""

    subject: str
    files: tuple[Path, ...]


def open_human36m(
    folder: Path,
    cache: Path,
    size: tuple[int, int] = (128, 128),
    train_subjects: Collection[str] = ("S1", "S5", "S6", "S7", "S8"),
    test_subjects: Collection[str] = ("S9", "S11"),
    scenario: str = "Walking",
    *,
    middle: float = 1.0,
    every: int = 5,
) -> Human36M:
    """Returns the clips of a scenario; a broken one is left out and named in `skipped`.

    Args:
        folder: with the images or videos, see the module.
        cache: folder for the decoded frames.
        size: rows and columns of the frames returned.
        train_subjects: whose clips are for training.
        test_subjects: whose clips are for testing.
        scenario: of the clips; its repetition (`Walking 1`, `Walking_1`) belongs to it.
        middle: part of the height and width that is kept, in the middle; MIM's code keeps 0.5.
        every: frames of a video from one that is kept to the next; of images all are kept.

    Raises:
        FlowcastError: there is no such folder or file, none of the subjects of a part, a subject is
            in both parts, no clip can be read, or PyAV is not installed and there are videos.
    """
    if both := sorted(set(train_subjects) & set(test_subjects)):
        raise FlowcastError(
            f"subject {both[0]} is among those for training and those for testing; take it from one"
        )
    found = _films(folder, scenario)

    def part(name: str, subjects: Collection[str]) -> Clips:
        films = {clip: film for clip, film in found.items() if film.subject in subjects}
        if not films:
            raise FlowcastError(_nobody(folder, scenario, found, name, subjects))
        files = [file for film in films.values() for file in film.files]
        settings = {"size": size, "middle": middle, "every": every}
        key = {**settings, "files": fingerprint(folder, files)}
        return cached_clips(
            cache / f"human36m-{name}", key, lambda: _clips(films, size, middle, every)
        )

    return Human36M(part("train", train_subjects), part("test", test_subjects))


def _films(folder: Path, scenario: str) -> dict[str, Film]:
    """Returns the films of a scenario by name, in the order of their names."""
    right = re.compile(rf"{re.escape(scenario)}(?:[ _.].*)?", re.IGNORECASE)
    images: defaultdict[tuple[Path, str, str], list[tuple[int, Path]]] = defaultdict(list)
    found: dict[str, Film] = {}
    for path in folder.rglob("*"):
        suffix = path.suffix.lower()
        number = NUMBERED.fullmatch(path.stem)
        if suffix in IMAGES and number:
            images[path.parent, number[1], suffix].append((int(number[2]), path))
        elif suffix in VIDEOS and (subject := _subject(path.relative_to(folder), right)):
            found[path.relative_to(folder).with_suffix("").as_posix()] = Film(subject, (path,))
    for (parent, prefix, _), numbered in images.items():
        film = (parent / prefix.rstrip("_-. ")).relative_to(folder)
        if subject := _subject(film, right):
            found |= _runs(film.as_posix(), subject, sorted(numbered))
    if not found:
        raise FlowcastError(
            f"{folder} has no film of {scenario}; ask for Human3.6M at {SITE} and put there a "
            f"folder of numbered images a film, S1/{scenario}.54138969/000001.jpg, all images in "
            f"one, images/S1_{scenario}.54138969_000001.jpg, or S1/Videos/{scenario}.54138969.mp4"
        )
    return dict(sorted(found.items()))


def _subject(film: Path, right: re.Pattern[str]) -> str | None:
    """Returns whose film it is by the parts of its path; None where it is of another scenario."""
    split = [(part, SUBJECT.fullmatch(part)) for part in film.parts]
    scenes = [match[2] or "" if match else part for part, match in split]
    subjects = [match[1] for _, match in split if match]
    return subjects[-1] if subjects and any(map(right.fullmatch, scenes)) else None


def _runs(name: str, subject: str, numbered: Sequence[tuple[int, Path]]) -> dict[str, Film]:
    """Returns the images of one film, cut where a number is missing."""
    apart = Counter(after - before for (before, _), (after, _) in pairwise(numbered))
    spacing = min(apart, key=lambda step: (-apart[step], step), default=1)
    cuts = [
        index
        for index, ((before, _), (after, _)) in enumerate(pairwise(numbered), 1)
        if after - before != spacing
    ]
    if not cuts:
        return {name: Film(subject, tuple(path for _, path in numbered))}
    runs = [numbered[start:stop] for start, stop in pairwise([0, *cuts, len(numbered)])]
    return {
        f"{name} {run[0][0]:06d}-{run[-1][0]:06d}": Film(subject, tuple(path for _, path in run))
        for run in runs
    }


def _nobody(
    folder: Path, scenario: str, found: Mapping[str, Film], part: str, subjects: Collection[str]
) -> str:
    there = ", ".join(sorted({film.subject for film in found.values()}))
    asked = ", ".join(sorted(subjects)) or "nobody"
    return (
        f"{folder} has films of {scenario} by {there} and of none of the subjects for {part} "
        f"({asked}); name other subjects for {part}, or get the rest from {SITE}"
    )


def _clips(
    films: Mapping[str, Film], size: tuple[int, int], middle: float, every: int
) -> Iterator[Clip | str]:
    """Gives the clips of some films, and a sentence for each that is missing."""
    if any(film.files[0].suffix.lower() in VIDEOS for film in films.values()):
        need_pyav()
    for name, film in films.items():
        try:
            if film.files[0].suffix.lower() in VIDEOS:
                frames = decode(film.files[0], size, 3, every=every, middle=middle)
            else:
                frames = _images(film.files, size, middle)
        except FlowcastError as error:
            yield f"{name} is left out: {error}"
            continue
        yield Clip(name, frames)


def _images(files: Sequence[Path], size: tuple[int, int], middle: float) -> np.ndarray:
    """Returns images as frames, uint8 `(frame, channel, y, x)`."""
    most = min(LIMITS.frames, LIMITS.bytes // (3 * size[0] * size[1]))
    if len(files) > most:
        raise FlowcastError(
            f"{files[0].parent} has {len(files):,} images of one film, more than the {most:,} of "
            f"{size[0]} x {size[1]} that a film may have; cut it into several"
        )
    frames = np.empty((len(files), 3, *size), dtype=np.uint8)
    for frame, file in zip(frames, files, strict=True):
        try:
            frame[:] = _image(file, size, middle)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise FlowcastError(
                f"{file} is no image, or damaged ({error}); get it anew from its source"
            ) from error
    return frames


def _image(path: Path, size: tuple[int, int], middle: float) -> np.ndarray:
    """Returns an image as `(channel, y, x)`: areas where it is reduced, bilinear where enlarged."""
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        if image.width * image.height > LIMITS.pixels:
            raise ValueError(f"it is {image.width} x {image.height}")
        box = left, top, right, bottom = middle_of(image.width, image.height, middle)
        smaller = right - left >= size[1] and bottom - top >= size[0]
        method = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
        resized = image.convert("RGB").resize((size[1], size[0]), method, box=box)
    return np.asarray(resized).transpose(2, 0, 1)
