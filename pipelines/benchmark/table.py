"""The table of benchmarks: runs, persistence and published figures of the same datasets, in rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data.clock import duration
from data.errors import FlowcastError
from forecasting.benchmarks.frame_metrics import METRICS
from forecasting.benchmarks.published import PUBLISHED, Published
from pipelines.benchmark.result import RESULT, read_result

OURS = "this run"
LABELS = {name: metric.label for name, metric in METRICS.items()}
COUNTS = ("test windows", "seed", "parameters", "multiply-adds", "epochs")
COLUMNS = (
    "dataset",
    "network",
    "scale",
    "frames",
    "grid",
    "test windows",
    "seed",
    *LABELS.values(),
    "parameters",
    "multiply-adds",
    "sequences/s batch 1",
    "sequences/s batch 16",
    "peak memory MiB",
    "training time s",
    "epochs",
    "source",
)
TEXTS = ("dataset", "network", "scale", "frames", "grid", "source")
GRIDS = {"moving-mnist": "64x64", "taxibj": "32x32", "kth": "128x128", "human36m": "128x128"}
"""Of published figures, where their note names no other."""


def table(folders: Sequence[Path]) -> pd.DataFrame:
    """Returns a row a run, a row a persistence, and the published rows of the datasets met.

    Persistence stands once for each set of test frames: runs that were tested on the same share it.

    Args:
        folders: of finished runs.

    Returns:
        the columns `COLUMNS`, NaN or NA where there is no figure, sorted by dataset, horizon, MSE.

    Raises:
        FlowcastError: a folder holds no finished run, or one that this version cannot read.
    """
    rows: list[dict[str, Any]] = []
    unchanged: dict[tuple[object, ...], dict[str, Any]] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        result = read_result(folder)
        try:
            rows.append(_run(result))
            still = _persistence(result)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise FlowcastError(
                f"{folder / RESULT} is not whole ({error!r}); run it again with this flowcast"
            ) from error
        # Two machines sum in different orders: the last digits may differ.
        key = (still["dataset"], still["frames"], still["grid"], f"{still['MSE']:.6g}")
        unchanged.setdefault(key, still)
    rows += unchanged.values()
    met = {row["dataset"] for row in rows}
    rows += [_published(row) for row in PUBLISHED if row.dataset in met]
    rows.sort(key=_place)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    kinds = {name: "Int64" if name in COUNTS else "float64" for name in COLUMNS}
    return frame.astype({name: kind for name, kind in kinds.items() if name not in TEXTS})


def as_markdown(frame: pd.DataFrame) -> str:
    """Returns the table as Markdown for people: rounded, with units, empty where there is no figure."""
    heads = [name.removesuffix(" s") for name in COLUMNS]  # cells say the time with its units
    lines = [heads, ["---" if name in TEXTS else "---:" for name in COLUMNS]]
    lines += [[_cell(name, row[name]) for name in COLUMNS] for row in frame.to_dict("records")]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_csv(frame: pd.DataFrame) -> str:
    """Returns the table as CSV for programs: whole numbers, empty where there is no figure."""
    return frame.to_csv(index=False, float_format="%.8g", lineterminator="\n")


def _run(result: Mapping[str, Any]) -> dict[str, Any]:
    machine = result["machine"]
    memory = machine["peak_memory_bytes"]
    settings = result.get("settings", [])
    network = result["network"] + (f" ({', '.join(settings)})" if settings else "")
    return {
        **_head(result, network),
        "seed": result["seed"],
        **_figures(result["scores"]),
        "parameters": result["parameters"],
        "multiply-adds": result["multiply_adds"],
        "sequences/s batch 1": machine["sequences_per_second"].get("1"),
        "sequences/s batch 16": machine["sequences_per_second"].get("16"),
        "peak memory MiB": None if memory is None else memory / 2**20,
        "training time s": machine["training_seconds"],
        "epochs": len(result["epochs"]),
    }


def _persistence(result: Mapping[str, Any]) -> dict[str, Any]:
    return {**_head(result, "persistence"), **_figures(result["persistence"])}


def _head(result: Mapping[str, Any], network: str) -> dict[str, Any]:
    return {
        "dataset": result["dataset"],
        "network": network,
        "scale": result["scale"],
        "frames": _frames(result["history"], result["horizon"]),
        "grid": "x".join(str(side) for side in result["config"]["grid"]),
        "test windows": int(result["data"]["test"]),
        "horizon": int(result["horizon"]),
        "source": OURS,
    }


def _figures(scores: Mapping[str, Any]) -> dict[str, float]:
    """Returns the figures over all frames by their labels; JSON has null in place of NaN."""
    found = {label: scores[name]["all"] for name, label in LABELS.items()}
    return {label: math.nan if value is None else float(value) for label, value in found.items()}


def _published(row: Published) -> dict[str, Any]:
    figures = {label: getattr(row, name, None) for name, label in LABELS.items()}
    return {
        "dataset": row.dataset,
        "network": row.network,
        "scale": "",
        "frames": _frames(row.history, row.horizon),
        "grid": row.note if row.note == "256x256" else GRIDS[row.dataset],
        "horizon": row.horizon,
        **{label: math.nan if value is None else value for label, value in figures.items()},
        "parameters": row.parameters,
        "multiply-adds": row.multiply_adds,
        "epochs": row.epochs,
        "source": "; ".join(part for part in (f"published: {row.source}", row.note) if part),
    }


def _frames(history: int, horizon: int) -> str:
    return f"{history} -> {horizon}"


def _place(row: Mapping[str, Any]) -> tuple[str, int, bool, float]:
    """Returns what rows are sorted by; those without an MSE come last."""
    mse = row["MSE"]
    return row["dataset"], row["horizon"], math.isnan(mse), 0.0 if math.isnan(mse) else mse


def _cell(name: str, value: Any) -> str:
    if name in TEXTS:
        return str(value).replace("|", r"\|")
    return "" if pd.isna(value) else FORMATS[name](float(value))


def _significant(value: float) -> str:
    """Returns four digits, more where the whole part has more."""
    decimals = 3 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(decimals, 0), 8)}f}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _giga(value: float) -> str:
    return f"{_significant(value / 1e9)} G"


FORMATS: dict[str, Callable[[float], str]] = {
    "test windows": _whole,
    "seed": "{:.0f}".format,
    LABELS["mse"]: _significant,
    LABELS["mae"]: _significant,
    LABELS["ssim"]: "{:.4f}".format,
    LABELS["ssim_range_1"]: "{:.4f}".format,
    LABELS["psnr"]: "{:.2f}".format,
    "parameters": _whole,
    "multiply-adds": _giga,
    "sequences/s batch 1": _significant,
    "sequences/s batch 16": _significant,
    "peak memory MiB": _whole,
    "training time s": duration,
    "epochs": _whole,
}
