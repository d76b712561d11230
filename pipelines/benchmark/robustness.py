"""Robustness: trained networks on test windows that went through a transform."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forecasting.benchmarks.scoring import persistence, predictor, squared_error
from forecasting.benchmarks.transforms import STRENGTHS, TRANSFORMS, Transformed
from forecasting.training.hardware import pick_device
from pipelines.benchmark.cost import Series
from pipelines.benchmark.plan import open_task, plan
from pipelines.benchmark.result import Finished, load_network


def robustness(
    finished: Mapping[str, Sequence[Finished]],
    data: Mapping[str, Path],
    device: str,
) -> dict[str, Series]:
    """Returns the error of every network, and of persistence, against the strength of transforms.

    By dataset and transform; the mean squared error of a frame on the test windows, over seeds.
    """
    place = pick_device(device)
    series: dict[str, Series] = {}
    for label, runs in finished.items():
        result = runs[0].result
        made = plan(result["dataset"], result["network"], result["scale"], _asked(result))
        task = open_task(made, data.get(result["dataset"]), place)
        networks = [predictor(load_network(one.folder, place)) for one in runs]
        for name in TRANSFORMS:
            lines = series.setdefault(f"{result['dataset']}: {name}", {})
            strengths = STRENGTHS[name]
            changed = [Transformed(task.test, name, strength) for strength in strengths]
            lines[label] = (
                list(strengths),
                [
                    sum(squared_error(predict, windows) for predict in networks) / len(networks)
                    for windows in changed
                ],
            )
            if "persistence" not in lines:
                unchanged = [squared_error(persistence, windows) for windows in changed]
                lines["persistence"] = (list(strengths), unchanged)
    return series


def _asked(result: Mapping[str, Any]) -> dict[str, str]:
    """Returns the settings that a finished run was asked for."""
    pairs = (setting.partition("=") for setting in result["settings"])
    return {key: text for key, _, text in pairs}
