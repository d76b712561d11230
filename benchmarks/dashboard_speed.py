"""Speed of the dashboard on a year of data: `python -m benchmarks.dashboard_speed --output docs/dashboard`.

It simulates a city of 32x32 cells with a year of half hours, forecasts and scores of its last week, serves
it on loopback and measures in chromium: the first paint of a warm server, a move of the slider, the
refresh of many sessions at once, and the server's memory over many refreshes. Figures of another machine, or
of a busy one, are others: what it was, and its load, stand beside them.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.measured import keep, machine, on
from tests.serving import served

CITY = """
title = "A year"
timezone = "Asia/Shanghai"
step = "30min"
grid = [32, 32]
test_days = 28
"""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
HORIZON = 4
REFRESH = 5.0
READY = "() => document.querySelectorAll('[data-testid=stVegaLiteChart] svg.marks').length >= 3"


def build(home: Path, weeks: int, days: int) -> None:
    """Makes the home: the flow, and forecasts of its last days with bands and scores."""
    from data.city import load_city
    from data.clock import Clock
    from data.flow import label
    from data.intervals import with_intervals
    from data.simulation.simulate import simulate
    from data.store.ingests import Source
    from data.store.store import Store
    from forecasting.covariates.climatology import Climatology
    from pipelines.forecast.live import forecast
    from pipelines.operate.score import score

    (home / "cities").mkdir(parents=True)
    (home / "cities" / "year.toml").write_text(CITY)
    city, store = load_city("year"), Store()
    town = simulate(city, weeks, 0)
    store.flow.add(city, label(town.counts, town.time, city), source=Source("simulated", ""))
    last = town.time[-1]
    made = forecast(store, city, HORIZON, at=last - np.timedelta64(days, "D"))
    climatology = Climatology.fit_pieces(store.flow.chunks(city))
    clock = Clock(city.step, city.timezone)
    for at in town.time[town.time > last - np.timedelta64(days, "D")]:
        times = clock.time(np.asarray([at])[:, None], np.arange(1, HORIZON + 1))
        values = climatology.expected(times).astype(np.float32)
        one = made.drop_vars([name for name in made.coords if "_" in str(name)]).copy(data=values)
        one = one.assign_coords(
            init_time=[at],
            lead_time=made["lead_time"].values,
            valid_time=(("init_time", "lead_time"), times),
        )
        spread = np.sqrt(values)
        edges = [values + sign * wide * spread for wide in (0.7, 1.3, 2.0) for sign in (-1, 1)]
        band = np.maximum(np.stack(edges), 0).reshape(3, 2, *values.shape)
        store.forecasts.add(city, with_intervals(one, band))
    score(store, city, last)
    store.close()


def opened(browser: Browser, url: str) -> tuple[Page, float]:
    """Opens a page in a session of its own, and returns it with the seconds until its maps stood."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    began = time.perf_counter()
    tab.goto(f"{url}/?city=year&y=16&x=16")
    tab.wait_for_function(READY, timeout=120_000)
    return tab, time.perf_counter() - began


def moves(tab: Page, count: int) -> list[float]:
    """Returns how long moves of the slider took until the map of the forecast was another."""
    slider = tab.get_by_role("slider").first
    slider.focus()
    seconds = []
    title = "[...document.querySelectorAll('strong')].map(one => one.innerText)"
    title += ".find(text => text.startsWith('Forecast '))"
    drawing = "document.querySelectorAll('[data-testid=stVegaLiteChart] svg.marks')[1]?.outerHTML"
    for number in range(count):
        former = tab.evaluate(title)
        picture = tab.evaluate(drawing)
        began = time.perf_counter()
        tab.keyboard.press("ArrowRight" if number % 6 < 3 else "ArrowLeft")
        tab.wait_for_function(
            f"([former, picture]) => {title} !== former && ({drawing}) !== picture",
            arg=[former, picture],
            timeout=60_000,
            polling=20,
        )
        seconds.append(time.perf_counter() - began)
        tab.wait_for_timeout(300)
    return seconds


def sessions(url: str, count: int, cycles: int, process: psutil.Process) -> dict[str, Any]:
    """Returns how long sessions that read the store over websockets waited for their refreshes.

    Each session is one that Streamlit's own protocol knows: it asks for a rerun and waits until the script
    has finished.
    """
    import asyncio

    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.asyncio.client import ClientConnection, connect

    async def rerun(socket: ClientConnection) -> float:
        message = BackMsg()
        message.rerun_script.query_string = "city=year&page=now&y=16&x=16"
        began = time.perf_counter()
        await socket.send(message.SerializeToString())
        while True:
            answer = ForwardMsg()
            answer.ParseFromString(await socket.recv())
            if answer.WhichOneof("type") == "script_finished":
                return time.perf_counter() - began

    async def all_of_them() -> tuple[list[float], list[float]]:
        stream = f"{url.replace('http', 'ws')}/_stcore/stream"
        sockets = [
            await connect(stream, subprotocols=["streamlit"], max_size=None)
            for _ in range(count)  # type: ignore[list-item]
        ]
        for one in sockets:
            await rerun(one)
        longest, memory = [], []
        for _ in range(cycles):
            waits = await asyncio.gather(*(rerun(one) for one in sockets))
            longest.append(max(waits))
            memory.append(process.memory_info().rss / 2**20)
        for one in sockets:
            await one.close()
        return longest, memory

    longest, memory = asyncio.run(all_of_them())
    return {"sessions": count, "longest_s": longest, "memory_mib": memory}


def main() -> None:
    """Measures and writes `speed.json` and `speed.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--days", type=int, default=7, help="with forecasts")
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--refreshes", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        os.environ["FLOWCAST_HOME"] = str(home)
        os.environ.pop("FLOWCAST_STORE", None)
        build(home, options.weeks, options.days)
        with served(home, REFRESH) as (url, pid):
            process = psutil.Process(pid)
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
                tab, cold = opened(browser, url)
                paints = []
                for _ in range(7):
                    tab.context.close()
                    tab, paint = opened(browser, url)
                    paints.append(paint)
                slides = moves(tab, 18)
                browser.close()
            many = sessions(url, options.sessions, 5, process)
            long = sessions(url, 1, options.refreshes, process)
    found = {
        "machine": machine(),
        "data": {"grid": "32x32", "weeks": options.weeks, "days_with_forecasts": options.days},
        "first_paint_cold_s": cold,
        "first_paint_warm_s": paints,
        "slider_s": slides,
        "sessions": {name: value for name, value in many.items() if name != "memory_mib"},
        "refreshes": {
            "count": options.refreshes,
            "median_s": statistics.median(long["longest_s"]),
            "memory_mib": long["memory_mib"][:: max(1, options.refreshes // 20)],
        },
    }
    keep(options.output, "speed", found, table(found))


def table(found: dict[str, Any]) -> str:
    """Returns the figures for people."""
    memory = found["refreshes"]["memory_mib"]
    rows = [
        (
            "first paint, warm: median of 7",
            f"{statistics.median(found['first_paint_warm_s']):.2f} s",
            "2 s",
        ),
        ("first paint, the server's first", f"{found['first_paint_cold_s']:.2f} s", ""),
        (
            "a move of the slider: median of 18",
            f"{1000 * statistics.median(found['slider_s']):.0f} ms",
            "300 ms",
        ),
        (
            f"{found['sessions']['sessions']} sessions refreshed at once: the last one, median of 5",
            f"{statistics.median(found['sessions']['longest_s']):.2f} s",
            "5 s",
        ),
        (
            f"memory over {found['refreshes']['count']} refreshes",
            f"{memory[0]:.0f} to {memory[-1]:.0f} MiB",
            "flat",
        ),
        ("a refresh, script alone: median", f"{1000 * found['refreshes']['median_s']:.0f} ms", ""),
    ]
    lines = ["| what | measured | asked |", "|---|---:|---:|"]
    lines += [f"| {what} | {value} | {asked} |" for what, value, asked in rows]
    lines += [
        "",
        f"{on(found['machine'])}; 32x32 cells, {found['data']['weeks']} weeks of half hours, forecasts of "
        f"{found['data']['days_with_forecasts']} days; chromium on the same machine.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
