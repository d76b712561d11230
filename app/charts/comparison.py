"""Charts of a contest: standings -> matplotlib figures; they know of no files.

They show the main entry beside the best other one and the best baseline: by hour and lead, by day,
and the worst day of the test span.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.charts.curves import MARKERS, SERIES, panels
from app.text import evenly_spaced
from data import windows
from forecasting.intervals.coverage import shares
from pipelines.compare.standings import Entry, Standings, by_group, daily, local_times

MOST_LEADS, MOST_DAYS = 3, 8
ERRORS = "RdBu_r"
OBSERVED, EXPECTED = "#000000", "#999999"


def charts(found: Standings) -> Iterator[tuple[str, Figure]]:
    """Yields the name and the figure of each chart that can be drawn."""
    yield "error-by-hour", by_hour(found)
    yield "error-by-day", by_day(found)
    if (drawn := reliability(found)) is not None:
        yield "reliability", drawn
    yield "worst-day", worst_day(found)


def by_hour(found: Standings) -> Figure:
    """Returns the RMSE by the hour that is forecast, a panel a lead."""
    horizon = found.held.plan.horizon
    times = local_times(found.init_times, found.held.flow, horizon)
    hours = (times - times.astype("datetime64[D]")).astype("timedelta64[h]").astype(np.int64)
    drawn: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for entry in shown(found):
        total = _mean([by_group(one, hours) for one in entry.sums])
        rmse = (total["squared"] / total["count"].where(total["count"] > 0)) ** 0.5
        for lead in evenly_spaced(horizon, MOST_LEADS):
            minutes = int(total["lead_time"].values[lead] / np.timedelta64(60, "s"))
            panel = drawn.setdefault(f"RMSE {minutes} minutes ahead, vehicles", {})
            panel[entry.name] = (total["group"].values.tolist(), rmse[:, lead].values.tolist())
    title = f"{found.held.city.title}: error by hour of the day and lead"
    return panels(drawn, f"hour in {found.held.city.timezone}", title)


def by_day(found: Standings) -> Figure:
    """Returns the RMSE of all leads by day, the main entry's worst day marked."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    ax = figure.subplots()
    days, day = _by_day(found.main, found)[0], worst(found)
    for place, entry in enumerate(shown(found)):
        rmse = _by_day(entry, found)[1]
        ax.plot(rmse, color=SERIES[place], marker=MARKERS[place], ms=4, label=entry.name)
    ax.axvline(int(np.searchsorted(days, day)), color="#555555", linestyle=":", linewidth=1.2)
    ax.set_title(
        f"{found.held.city.title}: error by day; the worst of {found.main.name} is "
        f"{pd.Timestamp(day):%a %d %b %Y}",
        fontsize=11,
    )
    ticks = evenly_spaced(len(days), MOST_DAYS)
    ax.set_xticks(ticks, [f"{pd.Timestamp(days[at]):%a %d %b}" for at in ticks])
    ax.set_ylabel("RMSE of all leads, vehicles per step")
    ax.set_ylim(bottom=0)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", fontsize=9, frameon=False)
    return figure


def reliability(found: Standings) -> Figure | None:
    """Returns which part of what came lay within the main entry's bands, None where it has none."""
    if (total := found.banded) is None:
        return None
    held = {dim: shares(total, dim)["held"] * 100 for dim in ("lead_time", "hour", "flow")}
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    leads = total["lead_time"].values / np.timedelta64(60, "s")
    marks = [f"{edge:g}" for edge in total["flow"].values]
    _shares(axes[0], leads, held["lead_time"], "minutes ahead")
    _shares(axes[1], total["hour"].values, held["hour"], f"hour in {found.held.city.timezone}")
    _shares(axes[2], np.arange(len(marks)), held["flow"], "forecast flow from, vehicles per step")
    axes[2].set_xticks(np.arange(len(marks)), marks)
    axes[0].set_ylabel("what came lay within, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", fontsize=9, frameon=False, ncols=3)
    figure.suptitle(
        f"{found.held.city.title}: bands of {found.main.name} on the test span", fontsize=12
    )
    return figure


def worst_day(found: Standings) -> Figure:
    """Returns the city's total over the worst day, and where the forecast of it was off."""
    flow, day = found.held.flow, worst(found)
    forecast = found.main.forecast(flow).sel(init_time=found.init_times)
    usual = baseline(found).forecast(flow).sel(init_time=found.init_times)
    observed = windows.future(flow, found.init_times, found.held.plan.horizon)
    days = local_times(found.init_times, flow, found.held.plan.horizon).astype("datetime64[D]")
    rows, columns = found.held.city.grid
    width = 2.6 * min(max(columns / rows, 0.5), 2) + 1.4
    figure = Figure(figsize=(7 + 2 * width, 4.6), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=[7, width, width])
    for lead, style in ((days.shape[1] - 1, "-"), (0, "--"))[: days.shape[1]]:
        ahead = int(forecast["lead_time"].values[lead] / np.timedelta64(60, "s"))
        inside = days[:, lead] == day
        if lead == days.shape[1] - 1:
            _total(axes[0], observed, lead, inside, OBSERVED, "-", "observed", found)
            _total(axes[0], usual, lead, inside, EXPECTED, "-", baseline(found).name, found)
        label = f"{found.main.name}, {ahead} minutes ahead"
        _total(axes[0], forecast, lead, inside, SERIES[0], style, label, found)
    axes[0].set_ylabel("inflow and outflow of all cells, vehicles per step")
    axes[0].set_xlabel(f"hour in {found.held.city.timezone}")
    axes[0].set_ylim(bottom=0)
    axes[0].grid(color="#dddddd", linewidth=0.6)
    axes[0].spines[["top", "right"]].set_visible(False)
    inside = days[:, -1] == day
    error = (forecast[:, -1].values - observed[:, -1].values)[inside].mean(axis=0)
    top = float(np.abs(error).max()) or 1.0
    for ax, channel, values in zip(axes[1:], flow["channel"].values, error, strict=True):
        origin: Literal["upper", "lower"] = "upper" if found.held.city.row0 == "north" else "lower"
        image = ax.imshow(values, cmap=ERRORS, vmin=-top, vmax=top, origin=origin)
        ax.set_title(f"{channel}: forecast less observed", fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    ahead = int(forecast["lead_time"].values[-1] / np.timedelta64(60, "s"))
    note = f"mean of the day, {ahead} minutes ahead, vehicles per step"
    figure.colorbar(image, ax=list(axes[1:]), label=note, shrink=0.9)
    title = (
        f"{found.held.city.title}: {pd.Timestamp(day):%A %d %B %Y}, the worst of {found.main.name}"
    )
    figure.suptitle(title, fontsize=12)
    figure.legend(loc="outside lower left", fontsize=9, frameon=False, ncols=2)
    return figure


def shown(found: Standings) -> list[Entry]:
    """Returns the main entry, the best other one and the best baseline, each once."""
    entries = [found.main, *([found.rival] if found.rival else []), baseline(found)]
    return list({entry.name: entry for entry in entries}.values())


def baseline(found: Standings) -> Entry:
    """Returns the best of the entries that are the same whatever the newest slots are.

    Where there is none it is the best baseline, or the main entry.
    """
    families = [
        one for one in found.entries if one.contestant and one.contestant.family == "baselines"
    ]
    calm = [one for one in families if one.name in ("recent-weeks", "historical-average")]
    return (calm or families or [found.main])[0]


def worst(found: Standings) -> np.datetime64:
    """Returns the local day on which the main entry is furthest off."""
    days, rmse = _by_day(found.main, found)
    return np.datetime64(days[int(np.argmax(rmse))], "D")


def _by_day(entry: Entry, found: Standings) -> tuple[np.ndarray, np.ndarray]:
    total = daily(entry, found.held).sum("lead_time")
    return total["group"].values, np.sqrt(total["squared"].values / total["count"].values)


def _total(
    ax: Axes,
    values: xr.DataArray,
    lead: int,
    inside: np.ndarray,
    color: str,
    style: str,
    label: str,
    found: Standings,
) -> None:
    """Draws the city's total over a day, with a break where slots are missing."""
    times = local_times(found.init_times, found.held.flow, values.sizes["lead_time"])[inside, lead]
    hours = (times - times.astype("datetime64[D]")) / np.timedelta64(3600, "s")
    total = values[inside, lead].sum(("channel", "y", "x")).values
    ax.plot(hours, total, color=color, linestyle=style, label=label)


def _shares(ax: Axes, x: np.ndarray, held: xr.DataArray, label: str) -> None:
    """Draws which part each band held, beside the part that it promises."""
    for place, coverage in enumerate(held["coverage"].values):
        values = held.sel(coverage=coverage).values
        name = f"{coverage:.0%} band"
        ax.axhline(100 * coverage, color="#999999", linestyle=":", linewidth=1)
        ax.plot(x, values, color=SERIES[place], marker=MARKERS[place], ms=4, label=name)
    ax.set_xlabel(label, fontsize=9)
    ax.set_ylim(0, 100)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def _mean(totals: list[xr.Dataset]) -> xr.Dataset:
    return sum(totals[1:], totals[0]) / len(totals)
