"""Lines and bars of the dashboard: tables -> Altair charts; they know of no page."""

import json
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from app.charts.maps import COLORS
from app.charts.web_maps import FORECAST, LAST_WEEK, OBSERVED, _inked


def history_chart(table: pd.DataFrame, now: float | None = None) -> alt.LayerChart:
    """Returns a cell's flow over time: what was observed, the forecast in its band, the week before.

    Args:
        table: columns `shown` (milliseconds, as `milliseconds` returns them), `at` (for people),
            `kind` (`observed`, `forecast`, `same slot last week`), `flow`, `lower`, `upper`; vehicles
            per step, NaN where there is no value.
        now: milliseconds at which a line is drawn.
    """
    styles = {
        "observed": (OBSERVED, [1, 0]),
        "forecast": (FORECAST, [1, 0]),
        "same slot last week": (LAST_WEEK, [4, 3]),
    }
    there = {*table["kind"]}
    kinds = [kind for kind in styles if kind in there]
    axis = alt.Axis(title=None, format="%a %H:%M", labelOverlap=True)
    x = alt.X("shown:T", scale=alt.Scale(type="utc"), axis=axis)
    legend = alt.Legend(title=None, orient="top", labelLimit=300, symbolType="stroke")
    color = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=[styles[kind][0] for kind in kinds]),
        legend=legend,
    )
    base = alt.Chart(table).encode(x)
    tooltip = [
        alt.Tooltip("at:N", title="time"),
        alt.Tooltip("kind:N", title="what"),
        alt.Tooltip("flow:Q", title="vehicles per step", format=",.1f"),
        alt.Tooltip("lower:Q", title="80 % band from", format=",.1f"),
        alt.Tooltip("upper:Q", title="to", format=",.1f"),
    ]
    area = (
        base.transform_filter("datum.kind === 'forecast'")  # whose gaps the area is not drawn over
        .mark_area(opacity=0.25, color=FORECAST)
        .encode(alt.Y("lower:Q", title="vehicles per step"), alt.Y2("upper:Q"))
    )
    dash = alt.StrokeDash(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=[styles[kind][1] for kind in kinds]),
        legend=legend,
    )
    lines = base.mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=1.5).encode(
        alt.Y("flow:Q", title="vehicles per step"), color=color, strokeDash=dash, tooltip=tooltip
    )
    layers = [area, lines] if np.isfinite(table["upper"].to_numpy(np.float64)).any() else [lines]
    if now is not None:
        rule = alt.Chart(pd.DataFrame({"shown": [now]})).mark_rule(strokeDash=[2, 2]).encode(x)
        layers.append(rule)
    return _inked(alt.layer(*layers).properties(height=320))


def errors_chart(table: pd.DataFrame, by: str, title: str, order: Sequence[str]) -> alt.Chart:
    """Returns the RMSE of forecasters by something; `PALETTE` has their colors, in the table's order.

    Args:
        table: columns `by`, `forecaster` and `rmse`, vehicles per step.
        by: name of the column, text.
        title: of the axis.
        order: in which the values of `by` follow one another.
    """
    names = [*dict.fromkeys(table["forecaster"])]
    return _inked(
        alt.Chart(table)
        .mark_line(point=alt.OverlayMarkDef(size=30))
        .encode(
            alt.X(
                f"{by}:O",
                sort=[*order],
                title=title,
                axis=alt.Axis(labelAngle=0, labelOverlap=True),
            ),
            alt.Y("rmse:Q", title="RMSE", scale=alt.Scale(zero=True)),
            color=alt.Color(
                "forecaster:N",
                sort=names,
                scale=alt.Scale(domain=names, range=PALETTE[: len(names)]),
                legend=None,
            ),
            shape=alt.Shape("forecaster:N", sort=names, legend=None),
            # The first of the table, which is what was served, stands out.
            strokeWidth=alt.condition(
                f"datum.forecaster === {json.dumps(names[0])}", alt.value(3), alt.value(1.2)
            ),
            tooltip=[
                alt.Tooltip("forecaster:N"),
                alt.Tooltip(f"{by}:O", title=title),
                alt.Tooltip("rmse:Q", title="RMSE", format=",.2f"),
            ],
        )
        .properties(height=250)
    )


PERCENT = "format(100 * {}, '.0f') + ' %'"
"""How Vega writes a share, as sentences do."""

PALETTE = ("#0072b2", "#b85c00", "#00795c", "#a84c82", "#6b6b00", "#2f2f2f", "#7a4fbf", "#c0392b")
"""Of lines: after Okabe and Ito's, darkened until each has a contrast of 4.5 to white."""


def calibration_chart(table: pd.DataFrame) -> alt.LayerChart:
    """Returns what bands held against what they promise; on the line they keep their word.

    Args:
        table: columns `lead` (text), `promised` and `held`, shares.
    """
    ends = pd.DataFrame({"promised": [0.0, 1.0], "held": [0.0, 1.0]})
    percent = alt.Axis(labelExpr=PERCENT.format("datum.value"))
    scale = alt.Scale(domain=[0, 1])
    line = (
        alt.Chart(ends)
        .mark_line(color="#666666", strokeDash=[4, 3])
        .encode(alt.X("promised:Q", scale=scale), alt.Y("held:Q", scale=scale))
    )
    points = (
        alt.Chart(table)
        .transform_calculate(
            promise=PERCENT.format("datum.promised"), kept=PERCENT.format("datum.held")
        )
        .mark_point(filled=True, size=70)
        .encode(
            alt.X("promised:Q", title="the band promises", axis=percent, scale=scale),
            alt.Y("held:Q", title="it held", axis=percent, scale=scale),
            color=alt.Color("lead:O", sort=None, scale=alt.Scale(scheme=COLORS), title="ahead"),
            tooltip=[
                alt.Tooltip("lead:O", title="ahead"),
                alt.Tooltip("promise:N", title="promised"),
                alt.Tooltip("kept:N", title="held"),
            ],
        )
    )
    return _inked(alt.layer(line, points).properties(height=340))


def calendar_chart(table: pd.DataFrame) -> alt.Chart:
    """Returns the share of slots that are there, a column a week and a row a weekday.

    Args:
        table: columns `day` (text, ISO), `week` (the Monday, ISO), `weekday` (text, Mon to Sun),
            `slots` and `share`.
    """
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    # One label a month: that of its first week.
    months = [week for week in sorted({*table["week"]}) if int(week[8:]) <= 7]
    return _inked(
        alt.Chart(table)
        .transform_calculate(there=PERCENT.format("datum.share"))
        .mark_rect(stroke="white", strokeWidth=1)
        .encode(
            alt.X(
                "week:O",
                title="week of",
                axis=alt.Axis(values=months, labelAngle=0, labelOverlap=True),
            ),
            alt.Y("weekday:O", sort=days, title=None),
            color=alt.Color(
                "share:Q",
                scale=alt.Scale(scheme=COLORS, domain=[0, 1]),
                legend=alt.Legend(
                    title="slots that are there",
                    labelExpr=PERCENT.format("datum.value"),
                    orient="bottom",
                ),
            ),
            tooltip=[
                alt.Tooltip("day:N"),
                alt.Tooltip("slots:Q"),
                alt.Tooltip("there:N", title="share"),
            ],
        )
        .properties(height=310)
    )


def totals_chart(table: pd.DataFrame) -> alt.Chart:
    """Returns a city's vehicles a day over time.

    Args:
        table: columns `shown` (milliseconds), `day` (text), `channel` and `vehicles`, the mean of a
            slot in all cells; NaN, where the line breaks, on days without flow.
    """
    return _inked(
        alt.Chart(table)
        .mark_line(point=alt.OverlayMarkDef(size=12), strokeWidth=1.5)
        .encode(
            alt.X(
                "shown:T", scale=alt.Scale(type="utc"), axis=alt.Axis(title=None, format="%d %b %y")
            ),
            alt.Y("vehicles:Q", title="vehicles per step, mean of the day"),
            color=alt.Color(
                "channel:N",
                scale=alt.Scale(domain=["inflow", "outflow"], range=[FORECAST, LAST_WEEK]),
                legend=(legend := alt.Legend(title=None, orient="top")),
            ),
            strokeDash=alt.StrokeDash(
                "channel:N",
                scale=alt.Scale(domain=["inflow", "outflow"], range=[[1, 0], [5, 4]]),
                legend=legend,
            ),
            tooltip=[
                alt.Tooltip("day:N"),
                alt.Tooltip("channel:N"),
                alt.Tooltip("vehicles:Q", format=",.0f"),
            ],
        )
        .properties(height=320)
    )


def milliseconds(shown: np.ndarray) -> np.ndarray:
    """Returns what clocks show, `datetime64`, as a time axis of these charts takes it."""
    return np.asarray(shown).astype("datetime64[ms]").astype(np.float64)
