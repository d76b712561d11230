"""Text: results of pipelines as lines for people and as objects for JSON."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from data.city import City
from data.clock import local, stamp
from data.formats.reading import REPAIRS
from data.intervals import intervals_of
from forecasting.baselines import BASELINES

if TYPE_CHECKING:  # They import what a forecast does not need.
    from pipelines.ingest.check import Check, Weather
    from pipelines.ingest.files import Ingested

MAX_LINES = 20
TITLES = {**{key: one.title for key, one in BASELINES.items()}, "served": "the served forecast"}
"""Titles of scored forecasters, by their key in tables of scores."""
COVERAGE = 0.8
"""Coverage of the prediction intervals in texts and pictures."""


def ingested_lines(result: "Ingested") -> list[str]:
    """Returns what ingest did with one file."""
    if result.refused:
        return [f"refused: {result.refused}"]
    added = result.added
    kind = {"expected": "slots of expected flow", "weather": "records of weather"}
    parts = [
        f"{count:,} {text}"
        for count, text in (
            (added.added, "new"),
            (added.equal, "stored already"),
            (added.replaced, "replaced, old values kept"),
        )
        if count
    ]
    summary = f"{result.path}: {kind.get(result.series, 'slots')}: {', '.join(parts)}"
    variables = [f"  of {', '.join(result.variables)}"] if result.variables else []
    return [summary, *variables, *_repair_lines(result.repairs)]


def check_lines(check: "Check", city: City) -> list[str]:
    """Returns the state of an archive for people."""
    if check.first is None or check.last is None:
        lines = [
            f"{city.title} ({city.name}): no flow yet; run: forecast ingest --city {city.name} PATH"
        ]
    else:
        first, last = (stamp(time, city.timezone) for time in (check.first, check.last))
        lines = [
            f"{city.title} ({city.name}), {city.grid[0]}x{city.grid[1]} cells, times in {city.timezone}",
            f"slots     {check.slots:,} from {first} to {last}",
            f"days      {check.days:,}, {check.whole_days:,} of them complete",
            f"range     {check.lowest:g} to {check.highest:g} vehicles per step, mean {check.mean:.2f}",
            f"gaps      {len(check.gaps):,} with {check.missing:,} missing slots",
        ]
    lines += [
        f"  {stamp(gap.first, city.timezone)} to {stamp(gap.last, city.timezone)}: {gap.slots:,}"
        for gap in check.gaps[:MAX_LINES]
    ]
    if len(check.gaps) > MAX_LINES:
        lines.append(f"  and {len(check.gaps) - MAX_LINES:,} more; all of them: --json")
    lines += _weather_lines(check.weather, city)
    lines.append("repaired  " + ("" if check.repairs else "nothing"))
    lines += _repair_lines(check.repairs)
    if check.revised:
        lines.append(f"replaced  {check.revised:,} slots, their former values kept as revisions")
    lines += [f"refused   {reason}" for _, reason in check.refused[-MAX_LINES:]]
    lines += [f"note      {note}" for note in check.notes]
    return lines


def _weather_lines(weather: "Weather | None", city: City) -> list[str]:
    if weather is None:
        return ["weather   none"]
    first, last = (stamp(time, city.timezone) for time in (weather.first, weather.last))
    lines = [
        f"weather   {weather.records:,} records, known from {first} to {last}",
        f"  of {', '.join(weather.gaps)}",
    ]
    for name, gaps in weather.gaps.items():
        if gaps:
            begin, end = (stamp(time, city.timezone) for time in gaps[0])
            lines.append(f"  {name} is missing {len(gaps):,} times, first {begin} to {end}")
    return lines


def check_object(check: "Check", city: City) -> dict[str, Any]:
    """Returns the state of an archive for JSON; times in UTC."""
    return {
        "city": city.name,
        "timezone": city.timezone,
        "grid": list(city.grid),
        "step_seconds": int(city.step / np.timedelta64(1, "s")),
        "slots": check.slots,
        "first": utc_text(check.first),
        "last": utc_text(check.last),
        "days": check.days,
        "whole_days": check.whole_days,
        "missing_slots": check.missing,
        "gaps": [
            {"first": utc_text(gap.first), "last": utc_text(gap.last), "slots": gap.slots}
            for gap in check.gaps
        ],
        "lowest": number(check.lowest),
        "mean": number(check.mean),
        "highest": number(check.highest),
        "repairs": check.repairs,
        "replaced": check.revised,
        "refused": [{"path": path, "reason": reason} for path, reason in check.refused],
        "weather": None if check.weather is None else _weather_object(check.weather),
    }


def _weather_object(weather: "Weather") -> dict[str, Any]:
    return {
        "records": weather.records,
        "first": utc_text(weather.first),
        "last": utc_text(weather.last),
        "gaps": {
            name: [{"from": utc_text(begin), "to": utc_text(end)} for begin, end in gaps]
            for name, gaps in weather.gaps.items()
        },
    }


def forecast_table(forecast: xr.DataArray, city: City) -> Table:
    """Returns a row a lead: time, totals, and the busiest cell of each channel with its interval.

    Totals have no interval: errors of cells are correlated, so that their intervals do not add up.
    """
    table = Table(title=Text(_heading(forecast, city)), title_justify="left")
    if intervals_of(forecast) is not None:
        table.caption = f"in brackets: {100 * COVERAGE:.0f} % prediction interval"
        table.caption_justify = "left"
    table.add_column("time")
    for channel in forecast["channel"].values:
        table.add_column(f"{channel}\ntotal", justify="right")
        table.add_column("busiest cell\nrow, column", justify="right")
    frames = forecast.isel(init_time=0)
    for lead in range(frames.sizes["lead_time"]):
        cells = [
            f"{local(frames['valid_time'].values[[lead]], city.timezone)[0]:%a %Y-%m-%d %H:%M}"
        ]
        for channel in forecast["channel"].values:
            frame = frames.isel(lead_time=lead).sel(channel=channel)
            row, column = np.unravel_index(frame.values.argmax(), frame.shape)
            busiest = value_with_interval(frame.isel(y=row, x=column))
            cells += [f"{float(frame.sum()):,.0f}", f"{busiest} at {row}, {column}"]
        table.add_row(*cells)
    return table


def value_with_interval(cell: xr.DataArray) -> str:
    """Returns the forecast of a cell in whole vehicles, with its prediction interval if there is one."""
    interval = intervals_of(cell)
    if interval is None:
        return f"{float(cell):,.0f}"
    lower, upper = interval.sel(coverage=COVERAGE).values
    return f"{float(cell):,.0f} ({lower:,.0f} to {upper:,.0f})"


def forecast_object(forecast: xr.DataArray, city: City) -> dict[str, Any]:
    """Returns a forecast for JSON: `flow[lead][channel][y][x]`, times with the city's offset.

    Prediction intervals, if any, are `band[edge][coverage][lead][channel][y][x]`.
    """
    frames = forecast.isel(init_time=0)
    interval = intervals_of(frames)
    return {
        "city": city.name,
        "init_time": _iso(forecast["init_time"].values, city)[0],
        "valid_time": _iso(frames["valid_time"].values, city),
        **{key: value for key, value in forecast.attrs.items() if key not in ("city", "notes")},
        "notes": notes(forecast),
        "channels": [str(name) for name in forecast["channel"].values],
        "flow": _rounded(frames),
        "band": None if interval is None else _interval_object(interval),
    }


def _interval_object(interval: xr.DataArray) -> dict[str, Any]:
    edges = {str(edge): _rounded(interval.sel(edge=edge)) for edge in interval["edge"].values}
    return {"coverage": interval["coverage"].values.tolist(), **edges}


def _rounded(flow: xr.DataArray) -> list[Any]:
    rounded: list[Any] = np.round(flow.values.astype(np.float64), 2).tolist()
    return rounded


def notes(forecast: xr.DataArray) -> list[str]:
    """Returns the notes of a forecast, a sentence each."""
    return str(forecast.attrs["notes"]).splitlines()


def _heading(forecast: xr.DataArray, city: City) -> str:
    model = forecast.attrs["model_version"]
    served = f"{forecast.attrs['forecaster']}" + (f", version {model}" if model else "")
    newest = stamp(np.datetime64(forecast.attrs["data_cutoff"].removesuffix("Z")), city.timezone)
    return f"{city.title}: {served}; newest slot {newest}; times in {city.timezone}"


def _repair_lines(repairs: dict[str, int]) -> list[str]:
    return [f"  {REPAIRS.get(key, key)}: {count:,}" for key, count in repairs.items()]


def _iso(time: np.ndarray, city: City) -> list[str]:
    return [wall.isoformat() for wall in local(time, city.timezone)]


def utc_text(time: np.datetime64 | None) -> str | None:
    """Returns a UTC time for JSON."""
    return None if time is None else f"{pd.Timestamp(time):%Y-%m-%dT%H:%M:%SZ}"


def number(value: float) -> float | None:
    """Returns a number for JSON, which has no NaN: None instead."""
    return round(value, 6) if np.isfinite(value) else None


def report_table(title: str, caption: str) -> Table:
    """Returns an empty table with a title, a caption and a blank first heading."""
    table = Table(
        title=Text(title),
        caption=Text(caption),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    return table


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Returns indices of `count` things: all, or `limit` of them from the first to the last."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, limit)).round()]
