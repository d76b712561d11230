"""Published figures of the benchmarks, from `published.toml`, which says how they compare."""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """What a paper or a project says of a network on a dataset.

    Attributes:
        dataset: key of `forecasting.benchmarks.DATASETS`.
        network: as the source calls it.
        history: frames that it sees.
        horizon: frames that it forecasts.
        source: paper or page.
        note: what to know before comparing.
        epochs: of the training, where the source says so.
        mse: per frame, summed over cells.
        mae: per frame, summed over cells.
        ssim: for a data_range of 2.
        psnr: in dB.
        parameters: of the network.
        multiply_adds: of one sequence.
    """

    dataset: str
    network: str
    history: int
    horizon: int
    source: str
    note: str = ""
    epochs: int | None = None
    mse: float | None = None
    mae: float | None = None
    ssim: float | None = None
    psnr: float | None = None
    parameters: float | None = None
    multiply_adds: float | None = None


def read_published() -> tuple[Published, ...]:
    """Returns all published figures, dataset by dataset."""
    content = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return tuple(Published(dataset, **row) for dataset, rows in content.items() for row in rows)
