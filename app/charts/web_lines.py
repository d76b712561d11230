"""Lines and bars of the dashboard by Altair.

Times are drawn as the city's clocks show them, whatever the time zone of the browser.
"""

import json
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from app.charts.maps import COLORS
from app.charts.web_maps import readable

LINES = {
    "observed": ("#000000", [1, 0]),
    "forecast": ("#0072b2", [1, 0]),
    "same slot last week": ("#b85c00", [4, 3]),
}
"""Color and dashes of the lines of a cell."""
CHANNEL_LINES = {"inflow": ("#0072b2", [1, 0]), "outflow": ("#b85c00", [5, 4])}
PALETTE = ("#0072b2", "#b85c00", "#00795c", "#a84c82", "#6b6b00", "#2f2f2f", "#7a4fbf", "#c0392b")
"""Colors of lines: those of Okabe and Ito, darkened to a contrast of 4.5 on white."""
PERCENT = "format(100 * {}, '.0f') + ' %'"
"""A share as a percentage, in Vega's language."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def history_chart(table: pd.DataFrame, now: float | None = None) -> alt.LayerChart:
    """Returns the flow of a cell over time: observed, forecast with its interval, and a week before.

    Args:
        table: columns `clock` (as `clock_milliseconds` returns it), `at` (text), `series` (a key of
            `LINES`), `flow`, `lower`, `upper`; vehicles per step, NaN where there is no value.
        now: where a vertical line is drawn, as in `clock`.
    """
    x = _time_axis("%a %H:%M", labelOverlap=True)
    base = alt.Chart(table).encode(x)
    tooltip = [
        alt.Tooltip("at:N", title="time"),
        alt.Tooltip("series:N", title="series"),
        alt.Tooltip("flow:Q", title="vehicles per step", format=",.1f"),
        alt.Tooltip("lower:Q", title="80 % interval from", format=",.1f"),
        alt.Tooltip("upper:Q", title="to", format=",.1f"),
    ]
    area = (
        # Rows of other series would close the gaps of the area.
        base.transform_filter("datum.series === 'forecast'")
        .mark_area(opacity=0.25, color=LINES["forecast"][0])
        .encode(alt.Y("lower:Q", title="vehicles per step"), alt.Y2("upper:Q"))
    )
    present = {*table["series"]}
    styles = {name: style for name, style in LINES.items() if name in present}
    lines = base.mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=1.5).encode(
        alt.Y("flow:Q", title="vehicles per step"), *_line_styles("series", styles), tooltip=tooltip
    )
    layers = [area, lines] if np.isfinite(table["upper"].to_numpy(np.float64)).any() else [lines]
    if now is not None:
        layers.append(
            alt.Chart(pd.DataFrame({"clock": [now]})).mark_rule(strokeDash=[2, 2]).encode(x)
        )
    return readable(alt.layer(*layers).properties(height=320))


def totals_chart(table: pd.DataFrame) -> alt.Chart:
    """Returns a city's flow over time, a value a day.

    Args:
        table: columns `clock` (as `clock_milliseconds` returns it), `day` (text), `channel` and
            `vehicles`, the mean over the slots of the day in all cells; NaN on days without flow.
    """
    return readable(
        alt.Chart(table)
        .mark_line(point=alt.OverlayMarkDef(size=12), strokeWidth=1.5)
        .encode(
            _time_axis("%d %b %y"),
            alt.Y("vehicles:Q", title="vehicles per step, mean of the day"),
            *_line_styles("channel", CHANNEL_LINES),
            tooltip=[
                alt.Tooltip("day:N"),
                alt.Tooltip("channel:N"),
                alt.Tooltip("vehicles:Q", format=",.0f"),
            ],
        )
        .properties(height=320)
    )


def _time_axis(style: str, **options: bool) -> alt.X:
    axis = alt.Axis(title=None, format=style, **options)
    return alt.X("clock:T", scale=alt.Scale(type="utc"), axis=axis)


def _line_styles(
    column: str, styles: dict[str, tuple[str, list[int]]]
) -> tuple[alt.Color, alt.StrokeDash]:
    """Returns the color and the dashes of lines by their name in a column."""
    legend = alt.Legend(title=None, orient="top", labelLimit=300, symbolType="stroke")
    colors, dashes = ([*part] for part in zip(*styles.values(), strict=True))
    return (
        alt.Color(f"{column}:N", scale=alt.Scale(domain=[*styles], range=colors), legend=legend),
        alt.StrokeDash(
            f"{column}:N", scale=alt.Scale(domain=[*styles], range=dashes), legend=legend
        ),
    )


def errors_chart(table: pd.DataFrame, by: str, title: str, order: Sequence[str]) -> alt.Chart:
    """Returns the RMSE of forecasters by a column; the first forecaster of the table is thicker.

    Args:
        table: columns `by`, `forecaster` and `rmse`, vehicles per step; colors follow its order.
        by: name of the column, text.
        title: of the axis.
        order: of the values of `by`.
    """
    names = [*dict.fromkeys(table["forecaster"])]
    colors = alt.Scale(domain=names, range=PALETTE[: len(names)])
    is_first = f"datum.forecaster === {json.dumps(names[0])}"
    labels = alt.Axis(labelAngle=0, labelOverlap=True)
    return readable(
        alt.Chart(table)
        .mark_line(point=alt.OverlayMarkDef(size=30))
        .encode(
            alt.X(f"{by}:O", sort=[*order], title=title, axis=labels),
            alt.Y("rmse:Q", title="RMSE", scale=alt.Scale(zero=True)),
            color=alt.Color("forecaster:N", sort=names, scale=colors, legend=None),
            shape=alt.Shape("forecaster:N", sort=names, legend=None),
            strokeWidth=alt.condition(is_first, alt.value(3), alt.value(1.2)),
            tooltip=[
                alt.Tooltip("forecaster:N"),
                alt.Tooltip(f"{by}:O", title=title),
                alt.Tooltip("rmse:Q", title="RMSE", format=",.2f"),
            ],
        )
        .properties(height=250)
    )


def calibration_chart(table: pd.DataFrame) -> alt.LayerChart:
    """Returns measured against nominal coverage of prediction intervals, with the diagonal.

    Args:
        table: columns `lead` (text), `nominal` and `coverage`, shares.
    """
    percent = alt.Axis(labelExpr=PERCENT.format("datum.value"))
    scale = alt.Scale(domain=[0, 1])
    diagonal = (
        alt.Chart(pd.DataFrame({"nominal": [0.0, 1.0], "coverage": [0.0, 1.0]}))
        .mark_line(color="#666666", strokeDash=[4, 3])
        .encode(alt.X("nominal:Q", scale=scale), alt.Y("coverage:Q", scale=scale))
    )
    points = (
        alt.Chart(table)
        .transform_calculate(
            expected=PERCENT.format("datum.nominal"), measured=PERCENT.format("datum.coverage")
        )
        .mark_point(filled=True, size=70)
        .encode(
            alt.X("nominal:Q", title="nominal coverage", axis=percent, scale=scale),
            alt.Y("coverage:Q", title="measured coverage", axis=percent, scale=scale),
            color=alt.Color("lead:O", sort=None, scale=alt.Scale(scheme=COLORS), title="ahead"),
            tooltip=[
                alt.Tooltip("lead:O", title="ahead"),
                alt.Tooltip("expected:N", title="nominal"),
                alt.Tooltip("measured:N"),
            ],
        )
    )
    return readable(alt.layer(diagonal, points).properties(height=340))


def calendar_chart(table: pd.DataFrame) -> alt.Chart:
    """Returns the share of slots that are stored, a column a week and a row a weekday.

    Args:
        table: columns `day` (text, ISO), `week` (its Monday, ISO), `weekday` (one of `WEEKDAYS`),
            `slots` and `share`.
    """
    first_weeks = [week for week in sorted({*table["week"]}) if int(week[8:]) <= 7]  # of months
    months = alt.Axis(values=first_weeks, labelAngle=0, labelOverlap=True)
    legend = alt.Legend(
        title="stored slots", labelExpr=PERCENT.format("datum.value"), orient="bottom"
    )
    scale = alt.Scale(scheme=COLORS, domain=[0, 1])
    return readable(
        alt.Chart(table)
        .transform_calculate(stored=PERCENT.format("datum.share"))
        .mark_rect(stroke="white", strokeWidth=1)
        .encode(
            alt.X("week:O", title="week of", axis=months),
            alt.Y("weekday:O", sort=[*WEEKDAYS], title=None),
            color=alt.Color("share:Q", scale=scale, legend=legend),
            tooltip=[alt.Tooltip("day:N"), alt.Tooltip("slots:Q"), alt.Tooltip("stored:N")],
        )
        .properties(height=310)
    )


def clock_milliseconds(clock: np.ndarray) -> np.ndarray:
    """Returns times of a city's clocks, `datetime64`, as the charts take them."""
    return np.asarray(clock).astype("datetime64[ms]").astype(np.float64)
