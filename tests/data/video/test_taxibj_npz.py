import zipfile
from pathlib import Path

import numpy as np
import pytest

from data.errors import FlowcastError
from data.video.taxibj_npz import open_taxibj_npz

NAMES = ("X_train", "Y_train", "X_test", "Y_test")


def film(frames: int, seed: int) -> np.ndarray:
    """Frames in [-1, 1] that change a little from each to the next."""
    steps = np.random.default_rng(seed).normal(size=(frames, 2, 32, 32)).cumsum(axis=0)
    return steps / np.abs(steps).max()


def windows(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = range(len(frames) - 7)
    return (
        np.stack([frames[start : start + 4] for start in starts]),
        np.stack([frames[start + 4 : start + 8] for start in starts]),
    )


def arrays() -> dict[str, np.ndarray]:
    return dict(zip(NAMES, (*windows(film(30, 0)), *windows(film(12, 1))), strict=True))


def saved(path: Path, arrays: dict[str, np.ndarray], **changed: np.ndarray) -> Path:
    np.savez(path, **{**arrays, **changed})
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dataset.npz"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_minus_1_to_1_becomes_0_to_1_and_nothing_else_changes(path: Path, dtype: str) -> None:
    given = {name: array.astype(dtype) for name, array in arrays().items()}
    benchmark = open_taxibj_npz(saved(path, given))
    parts = (
        benchmark.train_past,
        benchmark.train_future,
        benchmark.test_past,
        benchmark.test_future,
    )
    for name, part in zip(NAMES, parts, strict=True):
        assert part.dtype == np.float32
        np.testing.assert_allclose(2 * part - 1, given[name], atol=3e-7)
    assert not benchmark.reversed
    everything = np.concatenate([part.ravel() for part in parts])
    assert 0 <= everything.min() < everything.max() <= 1


@pytest.mark.parametrize(
    ("turned", "is_reversed"),
    [(NAMES, True), (("X_train", "X_test"), True), (("Y_train", "Y_test"), True), ((), False)],
    ids=["both", "past", "future", "none"],
)
def test_frames_that_run_backwards_are_turned_round_and_said_to_be(
    path: Path, turned: tuple[str, ...], is_reversed: bool
) -> None:
    forwards = arrays()
    backwards = {name: forwards[name][:, ::-1] for name in turned}
    benchmark = open_taxibj_npz(saved(path, forwards, **backwards))
    assert benchmark.reversed is is_reversed
    np.testing.assert_allclose(2 * benchmark.train_past - 1, forwards["X_train"], atol=3e-7)
    np.testing.assert_allclose(2 * benchmark.test_future - 1, forwards["Y_test"], atol=3e-7)


def test_frames_without_a_direction_are_refused(path: Path) -> None:
    still = {name: np.full_like(array, 0.5) for name, array in arrays().items()}
    with pytest.raises(FlowcastError, match="cannot be told"):
        open_taxibj_npz(saved(path, still))
    noise = np.random.default_rng(0)
    shuffled = {name: noise.uniform(-1, 1, array.shape) for name, array in arrays().items()}
    with pytest.raises(FlowcastError, match="cannot be told"):
        open_taxibj_npz(saved(path, shuffled))


def test_training_and_test_must_run_the_same_way(path: Path) -> None:
    given = arrays()
    test = {name: given[name][:, ::-1] for name in ("X_test", "Y_test")}
    with pytest.raises(FlowcastError, match="different directions"):
        open_taxibj_npz(saved(path, given, **test))


SMALL = np.zeros((3, 4, 2, 32, 32))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"X_train": np.zeros((23, 4, 2, 16, 12))}, r"X_train is float64 \(23, 4, 2, 16, 12\)"),
        ({"X_train": np.zeros((23, 4))}, r"X_train is float64 \(23, 4\)"),
        ({"Y_test": np.zeros((0, 4, 2, 32, 32))}, r"Y_test is float64 \(0,"),
        ({"Y_train": SMALL}, r"\[23, 3, 5, 5\] windows"),
        ({"X_test": np.zeros((5, 4, 2, 32, 32), "int8")}, "X_test is int8"),
        ({"X_test": np.full((5, 4, 2, 32, 32), None)}, "X_test is object"),
        ({"X_train": np.full((23, 4, 2, 32, 32), 1.5)}, "from 1.5 to 1.5 in place of"),
        ({"Y_test": np.full((5, 4, 2, 32, 32), np.nan)}, "Y_test has values from nan"),
        ({"Y_test": np.full((5, 4, 2, 32, 32), -np.inf)}, "Y_test has values from -inf"),
    ],
)
def test_other_arrays_than_the_benchmarks_are_refused(
    path: Path, changed: dict[str, np.ndarray], sentence: str
) -> None:
    with pytest.raises(FlowcastError, match=sentence) as refusal:
        open_taxibj_npz(saved(path, arrays(), **changed))
    assert str(path) in str(refusal.value)


def test_a_missing_array_is_named(path: Path) -> None:
    given = arrays()
    del given["Y_test"]
    with pytest.raises(FlowcastError, match="has no Y_test"):
        open_taxibj_npz(saved(path, given))


def test_a_file_that_is_no_npz_or_not_whole_is_refused(path: Path) -> None:
    with pytest.raises(FlowcastError, match="not the benchmark's"):
        open_taxibj_npz(path)
    path.write_text("no archive")
    with pytest.raises(FlowcastError, match="not the benchmark's"):
        open_taxibj_npz(path)
    whole = saved(path, arrays()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FlowcastError, match="not the benchmark's"):
        open_taxibj_npz(path)
    path.write_bytes(whole[:5000] + b"????" + whole[5004:])
    with pytest.raises(FlowcastError, match="not the benchmark's"):
        open_taxibj_npz(path)


def test_a_header_that_declares_too_much_is_refused_before_any_value_is_read(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in NAMES:
            with archive.open(f"{name}.npy", "w") as file:
                shape = (10**6, 4, 2, 32, 32)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
    assert path.stat().st_size < 2000
    with pytest.raises(FlowcastError, match="declares 122 GiB, more than the 2 GiB"):
        open_taxibj_npz(path)


def test_the_limit_is_that_of_all_four_arrays(path: Path) -> None:
    declared = 4 * (23 + 23 + 5 + 5) * 4 * 2 * 32 * 32
    saved(path, arrays())
    assert open_taxibj_npz(path, most_bytes=declared).test_past.shape == (5, 4, 2, 32, 32)
    with pytest.raises(FlowcastError, match="more than"):
        open_taxibj_npz(path, most_bytes=declared - 1)


def test_a_missing_file_says_what_to_get_and_where_to_put_it(path: Path) -> None:
    for missing in (path, path.parent):
        with pytest.raises(
            FlowcastError, match=r"get taxibj_dataset\.zip from https://"
        ) as refusal:
            open_taxibj_npz(missing)
        assert str(refusal.value).startswith(f"{missing} is no file")
