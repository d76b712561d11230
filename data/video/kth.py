"""KTH actions: gray clips of 25 persons who walk, jog, run, box, wave and clap.

AVI files `person01_boxing_d1_uncomp.avi` (160 x 120, 25 frames per second) anywhere below a folder,
and `sequences.txt` in it, with the frames of each file where the person acts: `person01_boxing_d1
frames 1-95, 96-185, 186-245, 246-360`, frames counted from 1, the last one included. Each such span
is a clip. The published list has 599 files (`person13_handclapping_d3` is `*missing*`), five of them
with three spans in place of four; some spans overlap or stand in another order than in time.

The benchmarks train on persons 1 to 16 and test on 17 to 25, other persons (Schuldt, Laptev, Caputo:
Recognizing Human Actions, ICPR 2004, splits otherwise; the split is that of later work on
forecasting frames).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data.errors import FlowcastError
from data.video.clips import Clip, Clips, cached_clips, fingerprint
from data.video.decode import decode, need_pyav

SITE = "https://www.csc.kth.se/cvap/actions/"
LISTS = ("sequences.txt", "00sequences.txt")
FILE = re.compile(r"(person(\d\d)_[a-z]+_d\d)(_uncomp)?\.avi", re.IGNORECASE)
LINE = re.compile(r"^(person\d\d_[a-z]+_d\d)[ \t]+frames[ \t]+(.*)$", re.IGNORECASE | re.MULTILINE)
SPAN = re.compile(r"(\d{1,9})\s*-\s*(\d{1,9})")

Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class KTH:
    """The two parts of the data set, gray.

    Attributes:
        train: clips of the persons for training, by name.
        test: clips of the other persons, by name.
    """

    train: Clips
    test: Clips


def open_kth(
    folder: Path,
    cache: Path,
    size: tuple[int, int] = (128, 128),
    train_persons: Collection[int] = range(1, 17),
    test_persons: Collection[int] = range(17, 26),
) -> KTH:
    """Returns the clips of the KTH actions; a broken one is left out and named in `skipped`.

    Args:
        folder: with `sequences.txt`; the AVI files lie in it or below.
        cache: folder for the decoded frames.
        size: rows and columns of the frames returned.
        train_persons: whose clips are for training, numbers from 1.
        test_persons: whose clips are for testing.

    Raises:
        FlowcastError: there is no such folder, list or file, no file of the persons of a part, a
            person is in both parts, no clip can be read, or PyAV is not installed.
    """
    if both := sorted(set(train_persons) & set(test_persons)):
        raise FlowcastError(
            f"person {both[0]} is among those for training and those for testing; take it from one"
        )
    found = _files(folder)
    listed = _list(folder)
    spans = _spans(listed)

    def part(name: str, persons: Collection[int]) -> Clips:
        files = {stem: path for stem, path in found.items() if int(stem[6:8]) in persons}
        if not files:
            raise FlowcastError(_nobody(folder, found, name, persons))
        key = {"size": size, "files": fingerprint(folder, [listed, *files.values()])}
        return cached_clips(cache / f"kth-{name}", key, lambda: _clips(files, spans, size))

    return KTH(part("train", train_persons), part("test", test_persons))


def _files(folder: Path) -> dict[str, Path]:
    """Returns the AVI files by the names that `sequences.txt` gives them, in their order."""
    matches = [(FILE.fullmatch(path.name), path) for path in sorted(folder.rglob("*"))]
    found = {match[1].lower(): path for match, path in matches if match and path.is_file()}
    if not found:
        raise FlowcastError(
            f"{folder} has no personNN_ACTION_dN_uncomp.avi; get the KTH actions from {SITE} "
            f"(boxing.zip, handclapping.zip, handwaving.zip, jogging.zip, running.zip, walking.zip), "
            f"unpack them into that folder, each into a folder of its own or all into one, "
            f"and put 00sequences.txt beside them as sequences.txt"
        )
    return dict(sorted(found.items()))


def _list(folder: Path) -> Path:
    for name in LISTS:
        if (folder / name).is_file():
            return folder / name
    raise FlowcastError(
        f"{folder} has no sequences.txt; get 00sequences.txt from {SITE} and put it there under "
        f"that name"
    )


def _spans(path: Path) -> dict[str, Spans]:
    """Returns the spans of each file: first and last frame, counted from 1."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise FlowcastError(f"{path} cannot be read ({error.strerror}); get it anew") from error
    listed = {
        name.lower(): [(int(first), int(last)) for first, last in SPAN.findall(spans)]
        for name, spans in LINE.findall(text)
    }
    if not listed:
        raise FlowcastError(
            f"{path} has no line such as 'person01_boxing_d1 frames 1-95, 96-185'; get "
            f"00sequences.txt from {SITE}"
        )
    return listed


def _nobody(folder: Path, found: Mapping[str, Path], part: str, persons: Collection[int]) -> str:
    there = sorted({int(stem[6:8]) for stem in found})
    asked = ", ".join(map(str, sorted(persons))) or "nobody"
    return (
        f"{folder} has clips of the persons {', '.join(map(str, there))} and of none of those for "
        f"{part} ({asked}); name other persons for {part}, or get all clips from {SITE}"
    )


def _clips(
    files: Mapping[str, Path], spans: Mapping[str, Spans], size: tuple[int, int]
) -> Iterator[Clip | str]:
    """Gives the clips of some files, and a sentence for each that is missing or shorter."""
    need_pyav()
    for name, path in files.items():
        if not spans.get(name):
            yield f"{name} is not in sequences.txt"
            continue
        try:
            frames = decode(path, size, 1)
        except FlowcastError as error:
            yield f"{name} is left out: {error}"
            continue
        for first, last in spans[name]:
            clip = f"{name} {first}-{last}"
            if last > len(frames):
                yield f"{clip} is not all there: {path} has {len(frames)} frames"
            if 1 <= first <= min(last, len(frames)):
                yield Clip(clip, frames[first - 1 : last])
            elif last <= len(frames):
                yield f"{clip} is left out: it has no frame"
