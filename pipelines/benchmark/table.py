"""The table of benchmarks: runs, persistence and published figures of the same datasets, in rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data.clock import duration
from data.errors import FlowcastError
from forecasting.benchmarks.frame_metrics import METRICS
from forecasting.benchmarks.published import Published, read_published
from pipelines.benchmark.result import RESULT, read_result
from pipelines.markdown_table import markdown_table

LABELS = {name: metric.label for name, metric in METRICS.items()}
TEXTS = ("dataset", "network", "scale", "frames", "grid", "source")
GRIDS = {"moving-mnist": "64x64", "taxibj": "32x32", "kth": "128x128", "human36m": "128x128"}
"""Of published figures, where their note names no other."""


def significant(value: float) -> str:
    """Returns four digits, more where the whole part has more."""
    decimals = 3 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(decimals, 0), 8)}f}"


FORMATS: dict[str, Callable[[float], str]] = {
    "test windows": "{:,.0f}".format,
    "seed": "{:.0f}".format,
    LABELS["mse"]: significant,
    LABELS["mae"]: significant,
    LABELS["ssim"]: "{:.4f}".format,
    LABELS["ssim_range_1"]: "{:.4f}".format,
    LABELS["psnr"]: "{:.2f}".format,
    "parameters": "{:,.0f}".format,
    "multiply-adds": lambda value: f"{significant(value / 1e9)} G",
    "sequences/s batch 1": significant,
    "sequences/s batch 16": significant,
    "peak memory MiB": "{:,.0f}".format,
    "training time s": duration,
    "epochs": "{:,.0f}".format,
}
"""Columns of figures, and how a person reads them."""
COUNTS = ("test windows", "seed", "parameters", "multiply-adds", "epochs")
COLUMNS = (*TEXTS[:-1], *FORMATS, "source")


def table(folders: Sequence[Path]) -> pd.DataFrame:
    """Returns a row for each run and each persistence, and the published rows of the same datasets.

    Persistence stands once for each set of test frames: runs that were tested on the same share it. The
    columns are `COLUMNS`, NaN or NA where there is no figure; rows are sorted by dataset, horizon, MSE.

    Raises:
        FlowcastError: a folder holds no finished run, or one that this version cannot read.
    """
    rows: list[dict[str, Any]] = []
    unchanged: dict[tuple[object, ...], dict[str, Any]] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        result = read_result(folder)
        try:
            rows.append(_run(result))
            still = _head(result, "persistence") | _scores(result["persistence"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise FlowcastError(
                f"{folder / RESULT} is not whole ({error!r}); run it again with this flowcast"
            ) from error
        # Two machines sum in different orders: the last digits may differ.
        key = (still["dataset"], still["frames"], still["grid"], f"{still['MSE']:.6g}")
        unchanged.setdefault(key, still)
    rows += unchanged.values()
    datasets = {row["dataset"] for row in rows}
    rows += [_published(row) for row in read_published() if row.dataset in datasets]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "horizon"])
    frame = frame.astype({name: "Int64" if name in COUNTS else "float64" for name in FORMATS})
    return frame.sort_values(
        ["dataset", "horizon", "MSE"], kind="stable", ignore_index=True, na_position="last"
    )[list(COLUMNS)]


def as_markdown(frame: pd.DataFrame) -> str:
    """Returns the table as Markdown for people: rounded, with units, empty where there is no figure."""
    cells = frame.astype(object)
    for name, form in FORMATS.items():
        cells[name] = ["" if pd.isna(value) else form(float(value)) for value in frame[name]]
    # Cells give the time with its units.
    return markdown_table(cells.rename(columns={"training time s": "training time"}), TEXTS)


def as_csv(frame: pd.DataFrame) -> str:
    """Returns the table as CSV for programs: whole numbers, empty where there is no figure."""
    return frame.to_csv(index=False, float_format="%.8g", lineterminator="\n")


def _run(result: Mapping[str, Any]) -> dict[str, Any]:
    machine = result["machine"]
    memory, speeds = machine["peak_memory_bytes"], machine["sequences_per_second"]
    settings = result.get("settings", [])
    network = result["network"] + (f" ({', '.join(settings)})" if settings else "")
    return {
        **_head(result, network),
        "seed": result["seed"],
        **_scores(result["scores"]),
        "parameters": result["parameters"],
        "multiply-adds": result["multiply_adds"],
        "sequences/s batch 1": speeds.get("1"),
        "sequences/s batch 16": speeds.get("16"),
        "peak memory MiB": None if memory is None else memory / 2**20,
        "training time s": machine["training_seconds"],
        "epochs": len(result["epochs"]),
    }


def _head(result: Mapping[str, Any], network: str) -> dict[str, Any]:
    return {
        "dataset": result["dataset"],
        "network": network,
        "scale": result["scale"],
        "frames": f"{result['history']} -> {result['horizon']}",
        "grid": "x".join(str(side) for side in result["config"]["grid"]),
        "test windows": int(result["data"]["test"]),
        "horizon": int(result["horizon"]),
        "source": "this run",
    }


def _scores(scores: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores over all frames by their labels; JSON has null in place of NaN."""
    found = {label: scores[name]["all"] for name, label in LABELS.items()}
    return {label: math.nan if value is None else float(value) for label, value in found.items()}


def _published(row: Published) -> dict[str, Any]:
    return {
        "dataset": row.dataset,
        "network": row.network,
        "scale": "",
        "frames": f"{row.history} -> {row.horizon}",
        "grid": row.note if row.note == "256x256" else GRIDS[row.dataset],
        "horizon": row.horizon,
        **{label: getattr(row, name, None) for name, label in LABELS.items()},
        "parameters": row.parameters,
        "multiply-adds": row.multiply_adds,
        "epochs": row.epochs,
        "source": "; ".join(part for part in (f"published: {row.source}", row.note) if part),
    }
