"""Charts of a comparison: result -> matplotlib figures; they know of no files.

They show the main entry, the best other one and the best baseline: by hour and lead, by day, and on the
worst day of the test span.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from app.charts.curves import SERIES, lines, panels, tidy
from app.charts.maps import draw_map
from app.text import evenly_spaced
from forecasting.intervals.coverage import shares
from pipelines.compare.standings import ComparisonResult, Entry

MAX_LEADS, MAX_DAYS = 3, 8
MINUTE, HOUR = np.timedelta64(60, "s"), np.timedelta64(3600, "s")


def charts(result: ComparisonResult) -> Iterator[tuple[str, Figure]]:
    """Yields the name and the figure of each chart."""
    yield "error-by-hour", by_hour(result)
    yield "error-by-day", by_day(result)
    yield "reliability", coverage(result)
    yield "worst-day", worst_day(result)


def by_hour(result: ComparisonResult) -> Figure:
    """Returns the RMSE by the hour that is forecast, a panel a lead."""
    city, hours = result.comparison.city, _local(result)[1].astype(np.int64)
    totals = {entry.name: entry.by_group(hours) for entry in shown(result)}
    drawn = {}
    for lead in evenly_spaced(result.comparison.horizon, MAX_LEADS):
        each = {name: total.isel(lead_time=lead) for name, total in totals.items()}
        minutes = int(each[result.main.name]["lead_time"].values / MINUTE)
        drawn[f"RMSE {minutes} minutes ahead, vehicles"] = {
            name: (one["group"].values.tolist(), _rmse(one).values.tolist())
            for name, one in each.items()
        }
    title = f"{city.title}: error by hour of the day and lead"
    return panels(drawn, f"hour in {city.timezone}", title)


def by_day(result: ComparisonResult) -> Figure:
    """Returns the RMSE of all leads by day, the main entry's worst day marked."""
    rmse = {entry.name: _rmse(entry.by_day(result.comparison)) for entry in shown(result)}
    days, worst = rmse[result.main.name]["group"].values, worst_of(result)
    title = f"{result.comparison.city.title}: error by day; the worst of {result.main.name} is "
    drawn = {name: (range(len(days)), one.values.tolist()) for name, one in rmse.items()}
    figure = lines(drawn, "", "RMSE of all leads, vehicles per step", title + f"{worst:%d %B %Y}")
    (ax,) = figure.axes
    ax.axvline(pd.Index(days).get_loc(worst), color="#555555", linestyle=":", linewidth=1.2)
    ticks = evenly_spaced(len(days), MAX_DAYS)
    ax.set_xticks(ticks, [f"{pd.Timestamp(days[at]):%d %b}" for at in ticks])
    ax.set_ylim(bottom=0)
    return figure


def coverage(result: ComparisonResult) -> Figure:
    """Returns how much of the flow the main entry's prediction intervals of each level cover."""
    total, city = result.coverage, result.comparison.city
    drawn = {}
    for dim, x, label in (
        ("lead_time", total["lead_time"].values / MINUTE, "minutes ahead"),
        ("hour", total["hour"].values, f"hour in {city.timezone}"),
        ("flow", np.arange(total.sizes["flow"]), "forecast flow from, vehicles per step"),
    ):
        covered = 100 * shares(total, dim)["held"]
        drawn[f"coverage, %, by {label}"] = {
            f"{level:.0%} interval": (x.tolist(), covered.sel(coverage=level).values.tolist())
            for level in total["coverage"].values
        }
    title = f"{city.title}: prediction intervals of {result.main.name} on the test span"
    figure = panels(drawn, "", title)
    for ax in figure.axes:
        ax.set_ylim(0, 100)
        for level in total["coverage"].values:
            ax.axhline(100 * level, color="#999999", linestyle=":", linewidth=1)
    figure.axes[2].set_xticks(range(total.sizes["flow"]), [f"{x:g}" for x in total["flow"].values])
    return figure


def worst_day(result: ComparisonResult) -> Figure:
    """Returns the city's total over the worst day, and where the forecast of it was off."""
    city, day, best = result.comparison.city, worst_of(result), baseline(result)
    forecast, observed, main = result.forecast(result.main), result.observed, result.main.name
    minutes = [int(lead / MINUTE) for lead in forecast["lead_time"].values]
    days, hours = _local(result)
    width = 2.6 * min(max(city.grid[1] / city.grid[0], 0.5), 2) + 1.4
    figure = Figure(figsize=(7 + 2 * width, 4.6), layout="constrained")
    left, *maps = figure.subplots(1, 3, width_ratios=[7, width, width])
    curves = [
        (observed, -1, "black", "-", "observed"),
        (result.forecast(best), -1, "#999999", "-", best.name),
        (forecast, -1, SERIES[0], "-", f"{main}, {minutes[-1]} minutes ahead"),
        (forecast, 0, SERIES[0], "--", f"{main}, {minutes[0]} minutes ahead"),
    ]
    for values, lead, color, style, label in curves[: 3 + (len(minutes) > 1)]:
        inside = days[:, lead] == day
        total = values[inside, lead].sum(("channel", "y", "x")).values
        left.plot(hours[inside, lead], total, color=color, linestyle=style, label=label)
    left.set(xlabel=f"hour in {city.timezone}", ylabel="flow of all cells, vehicles per step")
    left.set_ylim(bottom=0)
    tidy(left)
    error = (forecast - observed)[days[:, -1] == day, -1].mean("init_time")
    top = float(np.abs(error).max()) or 1.0
    for ax, channel in zip(maps, error["channel"].values, strict=True):
        frame, heading = error.sel(channel=channel).values, f"{channel}: forecast less observed"
        image = draw_map(ax, frame, (-top, top), heading, city, "RdBu_r")
    note = f"mean of the day, {minutes[-1]} minutes ahead, vehicles per step"
    figure.colorbar(image, ax=maps, label=note, shrink=0.9)
    figure.suptitle(f"{city.title}: {day:%A %d %B %Y}, the worst of {main}", fontsize=12)
    figure.legend(loc="outside lower left", fontsize=9, frameon=False, ncols=2)
    return figure


def shown(result: ComparisonResult) -> list[Entry]:
    """Returns the main entry, the best other one and the best baseline, each once."""
    entries = [result.main, result.rival or result.main, baseline(result)]
    return list({entry.name: entry for entry in entries}.values())


def baseline(result: ComparisonResult) -> Entry:
    """Returns the best of the baselines that do not follow the newest slots, or else of all."""
    known = {
        one.name: one for one in result.entries if one.contestant and not one.contestant.random
    }
    calm = [one for name, one in known.items() if name in ("recent-weeks", "historical-average")]
    return [*calm, *known.values()][0]


def worst_of(result: ComparisonResult) -> pd.Timestamp:
    """Returns the local day on which the main entry is furthest off."""
    return pd.Timestamp(_rmse(result.main.by_day(result.comparison)).idxmax().item())


def _rmse(total: xr.Dataset) -> xr.DataArray:
    rmse: xr.DataArray = (total["squared"] / total["count"].where(total["count"] > 0)) ** 0.5
    return rmse


def _local(result: ComparisonResult) -> tuple[np.ndarray, np.ndarray]:
    """Returns the local days and hours that are forecast, `(init_time, lead_time)`."""
    times = result.comparison.local_times(result.init_times)
    days = times.astype("datetime64[D]")
    return days, np.asarray((times - days) / HOUR)
