"""Runs: contestants fitted with a seed, and what they forecast of the validation and the test span.

Each run is kept in one file: the forecasts (16 bits a number, which changes an error of 1 % of the flow by
less than a thousandth) and the sums of their errors. So a comparison that was ended continues where it was,
and another one on the same data takes the runs that it finds.
"""

import json
import os
import signal
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
import xarray as xr

from data import windows
from data.clock import Clock
from data.errors import FlowcastError
from data.files import atomic_write
from forecasting.backtest import backtest, pieces
from forecasting.forecaster import Forecaster, label_windows
from forecasting.metrics import errors_of, sums_by_window
from forecasting.profiling.memory import available_cores, peak_memory_of_process
from pipelines.compare.comparison import Comparison, digest
from pipelines.compare.contestants import Run

BASE, COPIES = 2**30, 12
"""Bytes that a run takes at most: so many, and so many times the flow."""
FLOAT16_LIMIT = 2**15
"""Vehicles above which 16 bits are too few."""
SPANS = ("test", "validation")
BUSY = ("squared_busy", "absolute_busy", "relative_busy", "count_busy")
SUMS = ("squared", "absolute", "count", *BUSY)


@dataclass(frozen=True)
class RunResult:
    """What a run left, or several runs together.

    `forecast` takes the city's flow and one of `SPANS`, of which validation is forecast by what knows
    training alone; it returns dims `(init_time, lead_time, channel, y, x)`, float32 vehicles per step, NaN
    where the input of a window is not complete. `sums` are of the errors on the test span, as of
    `forecasting.metrics.sums_by_window`. `facts` are `seconds` of fitting, `epochs` or trees, `plain`
    (stacking weight of networks on raw flow), `validation` (RMSE by lead, and `all`), `memory` in bytes,
    `made` (when).
    """

    forecast: Callable[[xr.DataArray, str], xr.DataArray]
    sums: xr.Dataset
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Progress:
    """The `number`th of `count` runs starts, or has ended with a result, or the reason of its failure."""

    run: Run
    number: int
    count: int
    outcome: RunResult | str | None = None


def path_of(run: Run, comparison: Comparison) -> Path:
    """Returns the file of a run: another one for other settings, whatever its name begins with."""
    key = digest([run.contestant.settings(comparison), run.seed])
    name = "".join(sign if sign.isalnum() or sign == "-" else "_" for sign in run.label)
    return next(comparison.folder.glob(f"*-{key}.npz"), comparison.folder / f"{name}-{key}.npz")


def make_runs(
    comparison: Comparison, runs: Mapping[Path, Run], jobs: int | None
) -> Iterator[Progress]:
    """Makes runs, each into its file, and yields the progress.

    Those that train have processes of their own, with one thread whatever library computes. Where this ends
    early, so do they. If `jobs` is None as many work at a time as cores and memory allow.
    """
    fitting = psutil.virtual_memory().available // (BASE + COPIES * comparison.flow.nbytes)
    jobs = jobs or max(1, min(available_cores(), fitting))
    events: SimpleQueue[tuple[Path, str | None]] = SimpleQueue()
    parent, ours = get_context("spawn").Pipe(duplex=False)

    def make(path: Path) -> None:
        events.put((path, None))
        job, reason = (comparison, runs[path], path), ""
        try:
            if runs[path].contestant.random:
                with ProcessPoolExecutor(1, get_context("spawn"), _prepare, (parent,)) as process:
                    process.submit(fit_run, *job).result()
            else:
                fit_run(*job)
        except BrokenProcessPool:
            reason = "its process was ended, out of memory perhaps; continue with --jobs 1"
        except Exception as error:  # whatever it is, the others go on
            known = isinstance(error, FlowcastError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
        events.put((path, reason))

    threads, before = ThreadPoolExecutor(jobs), os.environ.get("OMP_NUM_THREADS")
    started = ended = 0
    try:
        os.environ["OMP_NUM_THREADS"] = "1"
        for path in sorted(runs, key=lambda path: runs[path].contestant.random):
            threads.submit(make, path)
        while ended < len(runs):
            path, reason = events.get()
            if reason is None:
                started += 1
                yield Progress(runs[path], started, len(runs))
            else:
                ended += 1
                outcome = read(path, comparison.flow) or reason
                yield Progress(runs[path], ended, len(runs), outcome)
    finally:
        ours.close()
        threads.shutdown(cancel_futures=True)
        parent.close()
        del os.environ["OMP_NUM_THREADS"]
        os.environ |= {} if before is None else {"OMP_NUM_THREADS": before}


def _prepare(parent: Connection) -> None:
    """Prepares a process: it has one thread, and ends once the other end of `parent` is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the comparison ends its runs by itself
    torch.set_num_threads(1)
    threading.Thread(target=lambda: parent.poll(None) and os._exit(1), daemon=True).start()


def fit_run(comparison: Comparison, run: Run, path: Path) -> None:
    """Fits a contestant, without the test span, and keeps what it forecasts.

    Raises:
        FlowcastError: it cannot be fitted or kept.
    """
    flow, (_, validation, test), began = comparison.flow, comparison.parts, time.process_time()
    hidden = replace(comparison, flow=flow.where(flow["time"] < test["time"][0]))
    final, selected, fit_facts = run.contestant.fit(hidden, run.seed)
    seconds = time.process_time() - began
    known = flow[: flow.sizes["time"] - test.sizes["time"]]
    forecasts = (
        _forecast(final, flow, comparison.init_times(test), comparison.horizon),
        _forecast(selected, known, comparison.init_times(validation), comparison.horizon),
    )
    sums, of_validation = (errors_by_window(one, flow) for one in forecasts)
    arrays = {name: sums[name].values for name in SUMS}
    for span, forecast in zip(SPANS, forecasts, strict=True):
        largest = np.fmax.reduce(forecast.values, axis=None, initial=0)  # NaN does not count
        kept = np.float16 if largest < FLOAT16_LIMIT else np.float32
        arrays[f"{span}_times"] = forecast["init_time"].values.astype(np.int64)
        arrays[f"{span}_forecast"] = forecast.values.astype(kept)
    made = f"{pd.Timestamp.now('UTC'):%Y-%m-%dT%H:%M:%SZ}"
    facts = {**fit_facts, "validation": rmse_by_lead(of_validation), "made": made}
    facts |= {"seconds": seconds, "memory": peak_memory_of_process()}
    with atomic_write(path) as temporary:
        np.savez(temporary, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays)


def read(path: Path, flow: xr.DataArray) -> RunResult | None:
    """Returns what a run on `flow` left in its file, None where nothing can be read."""
    try:
        with np.load(path) as file:
            facts = json.loads(str(file["facts"]))
            init_times = file["test_times"].astype("datetime64[s]")
            arrays = {name: file[name] for name in SUMS}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None

    def forecast(flow: xr.DataArray, span: str) -> xr.DataArray:
        with np.load(path) as file:
            values = file[f"{span}_forecast"].astype(np.float32)
            return label_windows(values, flow, file[f"{span}_times"].astype("datetime64[s]"))

    dims, leads = ("init_time", "lead_time", "channel"), np.arange(arrays["count"].shape[1]) + 1
    labels = (init_times, leads * Clock.of(flow).step, flow["channel"].values)
    sums = {name: (dims, values) for name, values in arrays.items()}
    return RunResult(forecast, xr.Dataset(sums, dict(zip(dims, labels, strict=True))), facts)


def combined(
    runs: Sequence[RunResult], flow: xr.DataArray, combine: Callable[..., xr.DataArray]
) -> RunResult:
    """Returns several runs as one that combines their forecasts; their seconds add up."""

    def forecast(flow: xr.DataArray, span: str) -> xr.DataArray:
        return combine(*(run.forecast(flow, span) for run in runs))

    sums, of_validation = (errors_by_window(forecast(flow, span), flow) for span in SPANS)
    seconds = sum(run.facts["seconds"] for run in runs)
    facts = {**runs[0].facts, "seconds": seconds, "validation": rmse_by_lead(of_validation)}
    return RunResult(forecast, sums, facts)


def errors_by_window(forecast: xr.DataArray, flow: xr.DataArray) -> xr.Dataset:
    """Returns the sums of the errors of each window, as `forecasting.metrics.sums_by_window`."""
    horizon = forecast.sizes["lead_time"]
    parts = [
        sums_by_window(forecast.sel(init_time=piece), windows.future(flow, piece, horizon))
        for piece in pieces(flow, forecast["init_time"].values, horizon)
    ]
    return xr.concat(parts, "init_time")


def rmse_by_lead(sums: xr.Dataset) -> dict[str, float]:
    """Returns the RMSE by lead, from 1, and of all; NaN where no window was forecast."""
    rmse = errors_of(sums.sum("init_time"))["rmse"].sel(channel="both").values.tolist()
    return dict(zip([*map(str, range(1, len(rmse))), "all"], rmse, strict=True))


def _forecast(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray, horizon: int
) -> xr.DataArray:
    """Returns the forecasts of windows, NaN where the input of one is not complete."""
    values = np.full((len(init_times), horizon, *flow.shape[1:]), np.nan, dtype=np.float32)
    able = np.isin(init_times, windows.whole(flow, forecaster.lags(horizon), horizon))
    made = [one.values for one, _ in backtest(forecaster, flow, init_times[able], horizon)]
    if made:
        values[able] = np.concatenate(made)
    return label_windows(values, flow, init_times)
