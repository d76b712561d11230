"""Time from a slot's arrival to its stored forecast.

`python -m benchmarks.arrival_speed --output docs/operation` measures it.

It simulates a city of 32x32 cells that ends a few hours ago, trains its champion, starts `forecast schedule`
as it runs for months, and drops the next slots into the inbox, a file each: renamed in from beside, and
written in place, which is whole after two seconds without a change. It is the time until another process
reads the forecast of the slot from the store. Beside it stands how long a process takes that starts, opens
the store and finds nothing to do. Figures of another machine, or of a busy one, are others.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measured import keep, machine, on

NAME = "arrivals"
CITY = """
title = "Arrivals"
timezone = "Asia/Shanghai"
step = "30min"
grid = [32, 32]
test_days = 7
"""
FORECAST = [sys.executable, "-m", "app.cli"]
EVERY = 0.05
"""Seconds between two looks for a forecast."""
LONGEST = 60.0


def build(home: Path, weeks: int, count: int, minutes: float) -> pd.DataFrame:
    """Makes the home with a champion, and returns the slots that are to come, as tables have them."""
    from data.city import load_city
    from data.flow import label
    from data.simulation.simulate import simulate
    from data.store.ingests import Source
    from data.store.store import Store

    (home / "cities").mkdir(parents=True)
    (home / "cities" / f"{NAME}.toml").write_text(CITY)
    city, store = load_city(NAME), Store()
    simulated = simulate(city, weeks, 0)
    now = np.datetime64(int(time.time()), "s")
    last = simulated.time[-1]
    late = ((now - last) // city.step - 2) * city.step  # slots stay where clocks begin them
    flow = label(simulated.counts, simulated.time + late, city)
    store.flow.add(city, flow[:-count], source=Source("simulated", ""))
    store.close()
    subprocess.run(
        [*FORECAST, "train", "--city", NAME, "--minutes", f"{minutes:g}"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    subprocess.run(
        [*FORECAST, "nightly", "--city", NAME, "--minutes", "0.1"],
        check=False,  # of no use but that the scheduler has none to begin with
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    table = flow[-count:].to_dataset("channel").to_dataframe().reset_index()
    table["time"] = table["time"].dt.tz_localize("UTC").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return table[["time", "y", "x", "inflow", "outflow"]]


def arrive(home: Path, table: pd.DataFrame, renamed: bool) -> float:
    """Drops a slot and returns the seconds until its forecast is read from the store."""
    from data.city import load_city
    from data.store.store import Store

    city, store = load_city(NAME), Store()
    slot = np.datetime64(table["time"].iloc[0].removesuffix("Z"), "s")
    folder, name = home / "inbox" / NAME, f"{str(slot).replace(':', '')}.csv"
    if renamed:
        beside = home / name
        table.to_csv(beside, index=False)
        os.utime(beside, (time.time() - 60,) * 2)
        began = time.perf_counter()
        beside.rename(folder / name)
    else:
        table.to_csv(folder / name, index=False)
        began = time.perf_counter()
    state = ""
    while time.perf_counter() - began < LONGEST:
        time.sleep(EVERY)
        if state != (state := store.change_token(city)):
            made = store.forecasts.newest(city)
            if made is not None and made["init_time"].values[0] == slot:
                seconds = time.perf_counter() - began
                store.close()
                return seconds
    raise SystemExit(f"no forecast of {slot}Z after {LONGEST:.0f} s")


def starts(count: int) -> list[float]:
    """Returns the seconds of updates that find nothing to do, without a scheduler."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        subprocess.run(
            [*FORECAST, "update", "--city", NAME],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Measures and writes `arrival.json` and `arrival.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weeks", type=int, default=12)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=3.0, help="of the champion's training")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        os.environ["FLOWCAST_HOME"] = str(home)
        os.environ.pop("FLOWCAST_STORE", None)
        table = build(home, options.weeks, options.slots, options.minutes)
        slots = [part for _, part in table.groupby("time", sort=True)]
        process = subprocess.Popen(
            [*FORECAST, "schedule", "--city", NAME],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            time.sleep(20)  # what was due when it started is done
            found: dict[str, list[float]] = {"renamed in": [], "written in place": []}
            for number, part in enumerate(slots):
                renamed = number % 2 == 0
                key = "renamed in" if renamed else "written in place"
                found[key].append(arrive(home, part, renamed))
                time.sleep(3)  # its scores and drift are kept too
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        nothing = starts(7)
        model = _champion()
    result = {
        "machine": machine(),
        "data": {"grid": "32x32", "weeks": options.weeks, "model": model},
        "arrival_to_forecast_s": found,
        "nothing_to_do_s": nothing,
    }
    keep(options.output, "arrival", result, markdown(result))


def _champion() -> str:
    from data.city import load_city
    from data.paths import models_root
    from data.store.store import Store
    from forecasting.registry.manifest import read_manifest

    city, store = load_city(NAME), Store()
    version = store.promotions.champion(city)
    store.close()
    if version is None:
        return "none: a baseline"
    manifest = read_manifest(models_root(), NAME, version)
    return f"{manifest.members} x {manifest.network}{' and trees' if manifest.trees else ''}"


def markdown(result: dict[str, Any]) -> str:
    """Returns the figures for people."""
    lines = ["| what | median | longest | asked |", "|---|---:|---:|---:|"]
    for name, seconds in result["arrival_to_forecast_s"].items():
        asked = "5 s"
        lines.append(
            f"| a slot's file {name}, until its forecast is stored: {len(seconds)} of them | "
            f"{statistics.median(seconds):.2f} s | {max(seconds):.2f} s | {asked} |"
        )
    nothing = result["nothing_to_do_s"]
    lines.append(
        f"| a process that starts and finds nothing to do: {len(nothing)} of them | "
        f"{statistics.median(nothing):.2f} s | {max(nothing):.2f} s | |"
    )
    data = result["data"]
    lines += [
        "",
        f"{on(result['machine'])}; "
        f"{data['grid']} cells, {data['weeks']} weeks of half hours, served by {data['model']}; a file "
        f"written in place is whole after 2 s without a change.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
