"""Scoring: the figures of the benchmark tables over all windows of a part, by frame and overall."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from forecasting.benchmarks.frame_metrics import frame_scores
from forecasting.training.batches import WindowSource

BATCH = 16
Predict = Callable[[Tensor, int], Tensor]
Scores = dict[str, dict[str, float | list[float]]]


def score(predict: Predict, windows: WindowSource) -> Scores:
    """Returns every figure of `frame_scores`, the mean over windows and frames and by frame.

    Args:
        predict: takes the past `(b, t, c, y, x)` and a horizon, returns `(b, horizon, c, y, x)`.
        windows: to score on; the past and the future have the same number of frames in all.

    Returns:
        by figure `{"all": ..., "by_frame": [...]}`.
    """
    sums: dict[str, Tensor] = {}
    for past, future in batches(windows):
        for name, values in frame_scores(predict(past, future.shape[1]), future).items():
            total = values.sum(dim=0).cpu()
            sums[name] = sums[name] + total if name in sums else total
    means = {name: total / len(windows) for name, total in sums.items()}
    return {
        name: {"all": float(mean.mean()), "by_frame": mean.tolist()} for name, mean in means.items()
    }


def predictor(network: nn.Module) -> Predict:
    """Returns what `score` takes, of a network: its last `horizon` outputs, in evaluation mode."""

    def predict(past: Tensor, horizon: int) -> Tensor:
        network.eval()
        with torch.inference_mode():
            outputs: Tensor = network(past, horizon)
        return outputs[:, -horizon:]

    return predict


def persistence(past: Tensor, horizon: int) -> Tensor:
    """Returns the newest frame again and again: what every network must beat."""
    return past[:, -1:].expand(-1, horizon, -1, -1, -1)


def squared_error(predict: Predict, windows: WindowSource) -> float:
    """Returns the mean squared error of a frame, summed over its cells: what epochs are chosen by."""
    total = 0.0
    for past, future in batches(windows):
        error = (predict(past, future.shape[1]) - future) ** 2
        total += float(error.sum(dim=(2, 3, 4)).double().mean(dim=1).sum())
    return total / len(windows)


def batches(windows: WindowSource) -> Iterator[tuple[Tensor, Tensor]]:
    """Returns the windows in their order, `BATCH` at a time."""
    taken = (windows.take(index) for index in torch.arange(len(windows)).split(BATCH))
    return ((past, future) for past, future, *_ in taken)
