"""Every dataset as a task: a contract over `DATASETS`, on small files that are drawn here."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data.errors import FlowcastError
from forecasting.benchmarks import DATASETS
from forecasting.benchmarks.array import ArrayConfig
from forecasting.benchmarks.moving_mnist import MovingMnistConfig
from forecasting.benchmarks.simulated_city import SimulatedCityConfig
from forecasting.benchmarks.task import Task
from forecasting.benchmarks.taxibj import TaxiBJConfig
from forecasting.benchmarks.videos import Human36MConfig, KTHConfig
from forecasting.training.batches import WindowSource

CPU = torch.device("cpu")
COUNTS = {"train": 12, "validation": 5, "test": 6}
SIZES = {
    "moving-mnist": MovingMnistConfig(4, 3, **COUNTS, side=32),
    "taxibj": TaxiBJConfig(**COUNTS),
    "kth": KTHConfig(4, 3, **COUNTS, size=16, every=1),
    "human36m": Human36MConfig(4, 3, **COUNTS, size=8),
    "simulated-city": SimulatedCityConfig(4, 3, **COUNTS, grid=(8, 6), weeks=1),
    "array": ArrayConfig(4, 3, **COUNTS),
}
CHANNELS = {
    "moving-mnist": 1,
    "taxibj": 2,
    "kth": 1,
    "human36m": 3,
    "simulated-city": 2,
    "array": 2,
}

Draw = Callable[[str, Path, int], Path]


def npz(folder: Path, seed: int) -> Path:
    """A `dataset.npz` of windows that overlap, cut from two films, as the benchmark's."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, frames in (("train", 107), ("test", 17)):
        film = rng.normal(size=(frames, 2, 32, 32)).cumsum(axis=0)
        film = (film / np.abs(film).max()).astype(np.float32)
        windows = np.stack([film[start : start + 8] for start in range(frames - 7)])
        arrays |= {f"X_{part}": windows[:, :4], f"Y_{part}": windows[:, 4:]}
    folder.mkdir()
    np.savez(folder / "dataset.npz", **arrays)
    return folder


def images(folder: Path, seed: int) -> Path:
    """Images of two subjects of Human3.6M, 70 and 30 frames of noise."""
    rng = np.random.default_rng(seed)
    for subject, count in (("S1", 70), ("S9", 30)):
        place = folder / subject / "Walking.54138969"
        place.mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number:06d}.png")
    return folder


def film(folder: Path, seed: int) -> Path:
    """A film of noise between 0 and 255, both of which stand in its first frame."""
    values = np.random.default_rng(seed).integers(0, 256, (120, 2, 8, 6))
    values[0, 0, 0, :2] = 0, 255
    folder.mkdir()
    np.save(folder / "film.npy", values)
    return folder / "film.npy"


@pytest.fixture
def draw(write_digits: Callable[..., Path], write_kth: Callable[..., Path]) -> Draw:
    """Draws the files of a dataset into a folder; another seed draws others."""

    def made(name: str, folder: Path, seed: int = 0) -> Path:
        draws = {
            "moving-mnist": write_digits,
            "taxibj": npz,
            "kth": write_kth,
            "human36m": images,
            "simulated-city": lambda folder, seed: folder,
            "array": film,
        }
        return draws[name](folder, seed)

    return made


def opened(name: str, folder: Path, **changes: Any) -> Task:
    return DATASETS[name].open(dataclasses.replace(SIZES[name], **changes), folder, CPU)


def contents(windows: WindowSource) -> set[bytes]:
    """Every frame that some windows hold, by its values."""
    past, future = windows.take(torch.arange(len(windows)))
    return {frame.numpy().tobytes() for frame in torch.cat([past, future], dim=1).flatten(0, 1)}


def test_every_dataset_is_tested_here() -> None:
    assert SIZES.keys() == CHANNELS.keys() == DATASETS.keys()


@pytest.mark.parametrize("name", DATASETS)
def test_windows_have_the_shape_that_the_task_tells_and_lie_in_0_to_1(
    name: str, draw: Draw, tmp_path: Path
) -> None:
    task = opened(name, draw(name, tmp_path / "files", 0))
    config, frames = SIZES[name], task.frames
    assert (frames.history, frames.horizon) == (config.history, config.horizon)
    assert frames.channels == CHANNELS[name]
    assert frames.output == "sigmoid"
    assert frames.data in (name, "")
    for part, count in COUNTS.items():
        windows = getattr(task, part)
        assert len(windows) == count
        past, future = windows.take(torch.tensor([0, 2, 1]))
        assert past.shape == (3, frames.history, frames.channels, *frames.grid)
        assert future.shape == (3, frames.horizon, frames.channels, *frames.grid)
        for values in (past, future):
            assert values.dtype == torch.float32
            assert 0 <= values.min() < values.max() <= 1


@pytest.mark.parametrize("name", DATASETS)
def test_no_frame_is_in_two_parts(name: str, draw: Draw, tmp_path: Path) -> None:
    task = opened(name, draw(name, tmp_path / "files", 0), train=500, validation=500, test=500)
    parts = [contents(windows) for windows in (task.train, task.validation, task.test)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


@pytest.mark.parametrize("name", DATASETS)
def test_validation_and_test_are_the_same_in_every_run(
    name: str, draw: Draw, tmp_path: Path
) -> None:
    tasks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        tasks.append(opened(name, draw(name, tmp_path / f"files{seed}", 0)))
        tasks[-1].train.take(torch.arange(3))
    for part in ("validation", "test"):
        one, two = (getattr(task, part).take(torch.arange(5)) for task in tasks)
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
    assert tasks[0].digest == tasks[1].digest
    assert len(tasks[0].digest) == 64


@pytest.mark.parametrize("name", DATASETS)
def test_other_data_have_another_digest(name: str, draw: Draw, tmp_path: Path) -> None:
    seeds = ({"seed": 0}, {"seed": 1}) if name == "simulated-city" else ({}, {})
    digests = {
        opened(name, draw(name, tmp_path / f"files{number}", number), **seed).digest
        for number, seed in enumerate(seeds)
    }
    assert len(digests) == 2


def test_a_digit_that_is_only_trained_on_changes_the_digest(draw: Draw, tmp_path: Path) -> None:
    folder = draw("moving-mnist", tmp_path / "files", 0)
    before = opened("moving-mnist", folder)
    path = folder / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[16 + 10 * 28 + 10] ^= 1  # a cell of the first digit, behind the file's four numbers
    path.write_bytes(content)
    after = opened("moving-mnist", folder)
    assert contents(before.validation) == contents(after.validation)
    assert before.digest != after.digest


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "simulated-city"])
def test_a_missing_folder_is_named_in_one_sentence(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    with pytest.raises(FlowcastError) as refusal:
        opened(name, folder)
    sentence = str(refusal.value)
    assert str(folder) in sentence
    assert "get " in sentence or "ask for" in sentence or "name a .npz" in sentence
    assert len(sentence.splitlines()) == 1


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "taxibj"])
def test_past_and_future_may_be_of_any_length(name: str, draw: Draw, tmp_path: Path) -> None:
    folder = draw(name, tmp_path / "files", 0)
    for history, horizon in ((2, 5), (6, 1)):
        task = opened(name, folder, history=history, horizon=horizon)
        for part in (task.train, task.validation, task.test):
            past, future = part.take(torch.arange(2))
            assert (past.shape[1], future.shape[1]) == (history, horizon)
        whole = torch.cat(task.test.take(torch.arange(2)), dim=1)
        longer = opened(name, folder, history=history + horizon - 1, horizon=1)
        assert torch.equal(torch.cat(longer.test.take(torch.arange(2)), dim=1), whole)


@pytest.mark.parametrize("name", ["kth", "human36m", "simulated-city"])
def test_windows_longer_than_the_data_are_one_sentence(
    name: str, draw: Draw, tmp_path: Path
) -> None:
    with pytest.raises(FlowcastError, match=r"there are 0 windows of 4 \+ 900 frames to train on"):
        opened(name, draw(name, tmp_path / "files", 0), horizon=900)


@pytest.mark.parametrize("name", DATASETS)
def test_sizes_that_cannot_be_are_refused(name: str) -> None:
    for key in ("history", "horizon", *COUNTS):
        with pytest.raises(ValueError, match="0"):
            dataclasses.replace(SIZES[name], **{key: 0})


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("taxibj", {"history": 5}, "windows of 4 . 4 frames and no others"),
        ("taxibj", {"horizon": 1}, "windows of 4 . 4 frames and no others"),
        ("moving-mnist", {"side": 27}, "side 27 is less than the 28 cells of a digit"),
        ("moving-mnist", {"digits": 0}, "digits 0 is less than 1"),
        ("kth", {"size": 0}, "size 0 is less than 1"),
        ("human36m", {"every": 0}, "every 0 is less than 1"),
        ("simulated-city", {"grid": (8,)}, r"grid \(8,\) is not rows, columns"),
        ("simulated-city", {"grid": (0, 8)}, r"grid \(0, 8\) is not rows, columns"),
    ],
)
def test_sizes_of_one_dataset_that_cannot_be_are_refused(
    name: str, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(SIZES[name], **changes)


def test_the_published_sizes_are_those_of_the_papers() -> None:
    paper = {name: dataset.config.paper() for name, dataset in DATASETS.items()}
    windows = {name: (config.history, config.horizon) for name, config in paper.items()}
    assert windows["moving-mnist"] == (10, 10)
    assert windows["taxibj"] == windows["human36m"] == (4, 4)
    assert windows["kth"] == (10, 20)
    assert paper["moving-mnist"].side == 64
    assert (paper["moving-mnist"].digits, paper["moving-mnist"].test) == (2, 10_000)
    assert paper["kth"].size == paper["human36m"].size == 128
    assert set(paper["kth"].train_persons) == set(range(1, 17))
    assert set(paper["kth"].test_persons) == set(range(17, 26))
    for name, dataset in DATASETS.items():
        assert dataset.config.quick().train <= paper[name].train


# Moving MNIST


def lights(windows: WindowSource) -> set[int]:
    """The lights of all digits in some windows; each drawn digit has its own."""
    frames = torch.cat(windows.take(torch.arange(len(windows))), dim=1)
    return {int(value) for value in (frames * 255).round().unique()} - {0}


def test_the_parts_of_moving_mnist_have_digits_of_their_own(draw: Draw, tmp_path: Path) -> None:
    task = opened("moving-mnist", draw("moving-mnist", tmp_path / "files", 0), train=400)
    # 36 to train on, the last tenth of 40 to validate on, 12 to test on.
    assert lights(task.train) == set(range(1, 37))
    assert lights(task.validation) <= set(range(37, 41))
    assert lights(task.test) <= set(range(101, 113))


def test_the_authors_sequences_are_tested_on_where_they_are(
    write_digits: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_digits(tmp_path / "files")
    drawn = opened("moving-mnist", folder, side=64)
    given = np.random.default_rng(0).integers(0, 256, (20, 4, 64, 64), dtype=np.uint8)
    np.save(folder / "mnist_test_seq.npy", given)
    task = opened("moving-mnist", folder, side=64, history=10, horizon=10)
    past, future = task.test.take(torch.arange(4))
    assert len(task.test) == 4
    np.testing.assert_allclose(past[3, :, 0] * 255, given[:10, 3], atol=1e-4)
    np.testing.assert_allclose(future[1, :, 0] * 255, given[10:, 1], atol=1e-4)
    assert any("mnist_test_seq.npy" in note for note in task.notes)
    shorter = opened("moving-mnist", folder, side=64, test=3)
    assert len(shorter.test) == 3
    np.testing.assert_allclose(
        shorter.test.take(torch.tensor([2]))[1][0, :, 0] * 255, given[4:7, 2]
    )
    assert shorter.digest != drawn.digest
    assert not any("mnist_test_seq.npy" in note for note in drawn.notes)
    assert torch.equal(
        shorter.validation.take(torch.arange(5))[0], drawn.validation.take(torch.arange(5))[0]
    )


@pytest.mark.parametrize("changes", [{"horizon": 17}, {"side": 32}, {"digits": 3}])
def test_authors_sequences_that_do_not_fit_are_not_tested_on_in_silence(
    changes: dict[str, int], write_digits: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_digits(tmp_path / "files")
    np.save(folder / "mnist_test_seq.npy", np.zeros((20, 2, 64, 64), np.uint8))
    with pytest.raises(FlowcastError, match=r"mnist_test_seq\.npy has .*; move it away"):
        opened("moving-mnist", folder, **{"side": 64, **changes})


def test_the_real_digits_are_split_as_they_should_be(real_data: Path) -> None:
    if not (real_data / "mnist").is_dir():
        pytest.skip(f"no digits in {real_data / 'mnist'}")
    task = opened("moving-mnist", real_data / "mnist", side=64, train=100, test=3)
    assert len(getattr(task.train, "digits")) == 55_000  # noqa: B009
    past, _ = task.train.take(torch.arange(3))
    assert past.shape == (3, 4, 1, 64, 64)
    assert 0.02 < past.mean() < 0.1  # two digits of some 100 bright cells of 4096


# The others


def test_frames_of_the_benchmark_s_file_that_run_backwards_are_turned_and_it_is_said(
    draw: Draw, tmp_path: Path
) -> None:
    folder = draw("taxibj", tmp_path / "files", 0)
    forwards = opened("taxibj", folder)
    assert forwards.notes == ()
    with np.load(folder / "dataset.npz") as arrays:
        np.savez(folder / "dataset.npz", **{key: arrays[key][:, ::-1] for key in arrays})
    turned = opened("taxibj", folder)
    assert len(turned.notes) == 1
    assert torch.equal(
        torch.cat(forwards.test.take(torch.arange(6)), 1),
        torch.cat(turned.test.take(torch.arange(6)), 1),
    )


def test_clips_that_were_left_out_are_noted(draw: Draw, tmp_path: Path) -> None:
    folder = draw("kth", tmp_path / "files", 0)
    (folder / "person02_boxing_d1_uncomp.avi").write_bytes(b"no film")
    with (folder / "sequences.txt").open("a") as file:
        file.write("person02_boxing_d1 frames 1-9\n")
    (note,) = opened("kth", folder).notes
    assert note.startswith("person02_boxing_d1 is left out")


def test_windows_of_clips_begin_as_far_apart_as_is_asked(draw: Draw, tmp_path: Path) -> None:
    folder = draw("human36m", tmp_path / "files", 0)
    every = {each: opened("human36m", folder, every=each, test=10**3) for each in (1, 4)}
    # 30 frames: windows of 7 begin at 0 .. 23, or at 0, 4 .. 20.
    assert [len(every[each].test) for each in (1, 4)] == [24, 6]
    third, _ = every[4].test.take(torch.tensor([2]))
    eighth, _ = every[1].test.take(torch.tensor([8]))
    assert torch.equal(third, eighth)


def test_a_simulated_city_is_scaled_by_its_largest_value_before_the_test(tmp_path: Path) -> None:
    task = opened("simulated-city", tmp_path, train=10**6, validation=10**6, test=10**6)
    (note,) = task.notes
    vehicles = float(note.removeprefix("1 stands for ").removesuffix(" vehicles"))
    for windows in (task.train, task.validation, task.test):
        counts = torch.cat(windows.take(torch.arange(len(windows))), dim=1) * vehicles
        torch.testing.assert_close(counts, counts.round(), atol=1e-3, rtol=0)
    # A week has 336 half hours, of which the last sixth is for testing: 56 slots, 50 windows of 7.
    assert len(task.test) == 50


def test_the_scale_of_a_simulated_city_knows_nothing_of_the_test(tmp_path: Path) -> None:
    tasks = [opened("simulated-city", tmp_path, test=10**6, seed=seed) for seed in range(8)]
    largest = [max(part.max() for part in task.test.take(torch.arange(50))) for task in tasks]
    assert max(largest) > 1, "some city is busiest in its test days"
    assert min(largest) < 1
