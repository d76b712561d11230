"""Drift: whether a city's flow, and the error of its forecasts, are still what they were."""

import numpy as np

from data.city import City
from data.clock import Clock, stamp
from data.store.drift import Drift
from data.store.scores import SERVED
from data.store.store import Store

DAY, WEEK = np.timedelta64(1, "D"), np.timedelta64(7, "D")
WEEKS = 4
"""Weeks of reference."""
MOST_TOTAL = 0.3
"""By what share the totals of a day may differ from those of the same slots of the weeks before."""
MOST_ERROR = 1.5
"""Times the error of the reference days that the error of a day may be."""
FEWEST = 12
"""Slots, or scores, of a day below which nothing is said of it."""


def drift(store: Store, city: City, now: np.datetime64) -> Drift | None:
    """Returns and stores the drift of the last day of flow, None where there is too little of it.

    Args:
        store: with flow and scores.
        city: whose they are.
        now: UTC; the flow until then counts.
    """
    span = store.flow.span(city, last=now)
    if span is None:
        return None
    total, usual = _totals(store, city, span[1])
    error, usual_error = _errors(store, city, span[1])
    if not np.isfinite([total, usual]).all():
        return None
    reasons = []
    if usual > 0 and abs(total / usual - 1) > MOST_TOTAL:
        reasons.append(
            f"{total:,.0f} vehicles a slot in the day until {stamp(span[1], city.timezone)}, "
            f"{abs(total / usual - 1):.0%} {'above' if total > usual else 'below'} the {usual:,.0f} of "
            f"the same slots of {WEEKS} weeks before"
        )
    if error is not None and usual_error and error > MOST_ERROR * usual_error:
        reasons.append(
            f"RMSE {error:.2f} in that day, {error / usual_error:.1f} times the {usual_error:.2f} of the "
            f"{7 * WEEKS} days before"
        )
    found = Drift(span[1], total, usual, error, usual_error, bool(reasons), "; ".join(reasons))
    store.drifts.add(city, found)
    return found


def _totals(store: Store, city: City, newest: np.datetime64) -> tuple[float, float]:
    """Returns vehicles a slot of the last day, and of the same slots of the weeks before; or NaN."""
    clock = Clock(city.step, city.timezone)
    days = []
    for week in range(WEEKS + 1):
        end = clock.after(newest, -week * 7 * city.slots_per_day)
        flow = store.flow.read(city, first=end - DAY + np.timedelta64(1, "s"), last=end)
        number = clock.number(flow["time"].values, end) if flow.sizes["time"] else np.array([])
        sums = flow.values.sum(axis=(1, 2, 3), dtype=np.float64)
        days.append(dict(zip(number.tolist(), sums.tolist(), strict=True)))
    today, *before = days
    both = {
        number: [day[number] for day in before if number in day]
        for number in today
        if any(number in day for day in before)
    }
    if len(both) < min(FEWEST, city.slots_per_day):
        return float("nan"), float("nan")
    usual = float(np.mean([np.mean(values) for values in both.values()]))
    return float(np.mean([today[number] for number in both])), usual


def _errors(store: Store, city: City, newest: np.datetime64) -> tuple[float | None, float | None]:
    """Returns the RMSE of what was served for the last day and for the weeks before it.

    Either is None where there are too few scores; of the weeks before there must be as many as of the day,
    for no hour is like another.
    """
    table = store.scores.table(city, newest - DAY - WEEKS * WEEK, newest)
    served = table[table["forecaster"] == SERVED]
    recent = served["init_time"] > newest - DAY
    day, before = served[recent], served[~recent]
    fewest = min(FEWEST, city.slots_per_day)
    error, usual = (
        float(np.sqrt(part["squared"].sum() / part["count"].sum())) if len(part) >= least else None
        for part, least in ((day, fewest), (before, max(fewest, len(day))))
    )
    return error, usual
