"""Drift: whether a city's flow, and the error of its forecasts, differ from the weeks before."""

import numpy as np

from data.city import City
from data.clock import Clock, stamp
from data.store.drift import Drift
from data.store.scores import SERVED
from data.store.store import Store
from forecasting.metrics import rmse

DAY, WEEK = np.timedelta64(1, "D"), np.timedelta64(7, "D")
REFERENCE_WEEKS = 4
MAX_TOTAL_CHANGE = 0.3
"""Fraction by which a day's total may differ from that of the same slots of the reference weeks."""
MAX_ERROR_RATIO = 1.5
"""Times the RMSE of the reference weeks that a day's may be."""
MIN_SLOTS = 12
"""Slots, or scores, of a day that are needed to judge it."""


def drift(store: Store, city: City, now: np.datetime64) -> Drift | None:
    """Returns and stores the drift of the last day of flow, None where too few slots are known.

    Args:
        store: with flow and scores.
        city: whose they are.
        now: UTC; flow until then counts.
    """
    span = store.flow.span(city, last=now)
    if span is None:
        return None
    total, typical = _totals(store, city, span[1])
    error, typical_error = _errors(store, city, span[1])
    if not np.isfinite([total, typical]).all():
        return None
    reasons = []
    change = total / typical - 1 if typical > 0 else 0.0
    if abs(change) > MAX_TOTAL_CHANGE:
        reasons.append(
            f"{total:,.0f} vehicles per slot in the day until {stamp(span[1], city.timezone)}, "
            f"{abs(change):.0%} {'above' if change > 0 else 'below'} the {typical:,.0f} of the same "
            f"slots of the {REFERENCE_WEEKS} weeks before"
        )
    if error is not None and typical_error and error > MAX_ERROR_RATIO * typical_error:
        reasons.append(
            f"RMSE {error:.2f} in that day, {error / typical_error:.1f} times the "
            f"{typical_error:.2f} of the {7 * REFERENCE_WEEKS} days before"
        )
    found = Drift(span[1], total, typical, error, typical_error, bool(reasons), "; ".join(reasons))
    store.drifts.add(city, found)
    return found


def _totals(store: Store, city: City, newest: np.datetime64) -> tuple[float, float]:
    """Returns vehicles per slot of the last day, and of its slots in the reference weeks, or NaN."""
    clock = Clock(city.step, city.timezone)
    days = []
    for week in range(REFERENCE_WEEKS + 1):
        end = clock.after(newest, -week * 7 * city.slots_per_day)
        flow = store.flow.read(city, first=end - DAY + np.timedelta64(1, "s"), last=end)
        number = clock.number(flow["time"].values, end) if flow.sizes["time"] else np.array([])
        sums = flow.values.sum(axis=(1, 2, 3), dtype=np.float64)
        days.append(dict(zip(number.tolist(), sums.tolist(), strict=True)))
    today, *before = days
    reference = {
        number: [day[number] for day in before if number in day]
        for number in today
        if any(number in day for day in before)
    }
    if len(reference) < min(MIN_SLOTS, city.slots_per_day):
        return float("nan"), float("nan")
    typical = float(np.mean([np.mean(values) for values in reference.values()]))
    return float(np.mean([today[number] for number in reference])), typical


def _errors(store: Store, city: City, newest: np.datetime64) -> tuple[float | None, float | None]:
    """Returns the RMSE of the stored forecasts of the last day and of the reference weeks.

    Either is None where scores are too few; the weeks need as many as the day, for hours differ.
    """
    scores = store.scores.sums(city, newest - DAY - REFERENCE_WEEKS * WEEK, newest)
    served = scores[scores["forecaster"] == SERVED]
    recent = served["init_time"] > newest - DAY
    day, before = served[recent], served[~recent]
    needed = min(MIN_SLOTS, city.slots_per_day)
    error, typical = (
        float(rmse(part["squared"].sum(), part["count"].sum())) if len(part) >= least else None
        for part, least in ((day, needed), (before, max(needed, len(day))))
    )
    return error, typical
