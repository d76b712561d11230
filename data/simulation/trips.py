"""The trips of a simulated city: why and when people go, how far, and when they arrive."""

from dataclasses import dataclass, replace

import numpy as np

from data.city import City
from data.simulation.land_use import EXTENT, LandUse

BUSIEST = 20_500.0
"""Departures of the busiest cell on an ordinary workday."""
HOUR = np.timedelta64(3600, "s")


@dataclass(frozen=True)
class Purpose:
    """Why people go from one kind of place to another, and come back.

    Attributes:
        origin, destination: land uses.
        share: of the city's trips on a day of rhythm 1.
        reach: distance in km over which destinations lose their pull.
        rain: how much more trips heavy rain makes, as a part of them.
        trips: for each kind of day, when people leave, the spread, how long they stay (all in
            hours) and how many they are.
    """

    origin: str
    destination: str
    share: float
    reach: float
    rain: float
    trips: tuple[tuple[tuple[float, float, float, float], ...], ...]


KINDS = ("workday", "friday", "saturday", "sunday", "holiday")
_WORK = ((8.3, 0.85, 9.6, 0.72), (8.8, 1.0, 12.0, 0.13), (13.0, 1.5, 6.5, 0.15))
_WEEKEND_WORK = ((9.4, 1.0, 7.8, 0.2), (13.0, 1.2, 5.0, 0.05))
_ERRANDS = ((10.5, 1.4, 1.0, 0.35), (14.5, 1.8, 1.0, 0.4), (19.0, 1.4, 1.2, 0.25))
_SHOPPING = ((11.5, 1.4, 1.4, 0.3), (15.0, 1.8, 1.8, 0.5), (18.5, 1.3, 1.5, 0.2))
_LUNCH = (12.2, 0.6, 1.3, 0.25)
_RAIL = ((8.4, 0.8, 9.4, 0.4), (13.5, 2.0, 0.5, 0.4), (20.5, 0.8, -1.0, 0.2))
_SUNDAY_RAIL = ((11.5, 1.8, 1.0, 0.5), (19.5, 1.2, -2.5, 0.6))
PURPOSES = (
    Purpose("homes", "offices", 0.28, 7.0, 0.15, (_WORK, _WORK, *3 * (_WEEKEND_WORK,))),
    Purpose("anywhere", "shops", 0.50, 4.0, -0.12, (_ERRANDS, _ERRANDS, *3 * (_SHOPPING,))),
    Purpose("stations", "anywhere", 0.07, 9.0, 0.20, (*3 * (_RAIL,), *2 * (_SUNDAY_RAIL,))),
    Purpose(
        *("homes", "leisure", 0.14, 5.0, -0.25),
        trips=(
            (_LUNCH, (19.0, 0.8, 2.9, 0.75)),
            (_LUNCH, (19.4, 0.7, 3.3, 0.6), (21.3, 0.7, 4.1, 0.6)),
            ((14.0, 1.5, 4.0, 0.6), (19.4, 0.8, 3.3, 0.5), (21.3, 0.7, 4.3, 0.7)),
            ((11.8, 1.0, 2.7, 0.3), (14.5, 1.4, 3.7, 0.5), (18.3, 0.8, 2.9, 0.3)),
            ((11.2, 1.0, 3.3, 0.5), (14.5, 1.4, 4.0, 0.6), (18.8, 0.9, 3.0, 0.4)),
        ),
    ),
)


@dataclass(frozen=True)
class Way:
    """Trips from their origins to cells in proportion to `pull` and to nearness.

    Attributes:
        origin: trips that leave each cell on a day of rhythm 1, `(y, x)`.
        felt: pull of all cells on each cell; divided by it, all trips arrive, `(y, x)`.
        pull: of each cell as a destination, `(y, x)`.
        kernel: spectrum of nearness, `(delay, y, x)`, delays in steps.
        rhythm: part of the trips in each slot, `(kind, day, slot)`; day 1 is the night after.
        rain: how much more trips heavy rain makes, as a part of them.
    """

    origin: np.ndarray
    felt: np.ndarray
    pull: np.ndarray
    kernel: np.ndarray
    rhythm: np.ndarray
    rain: float


def ways_of(city: City, land_use: LandUse) -> list[Way]:
    """Returns all ways, scaled so that BUSIEST trips leave the busiest cell on a workday."""
    ways = [way for purpose in PURPOSES for way in _there_and_back(city, land_use, purpose)]
    most = np.sum([way.origin * way.rhythm[0].sum() for way in ways], axis=0).max()
    return [replace(way, origin=way.origin * BUSIEST / most) for way in ways]


def _there_and_back(city: City, land_use: LandUse, purpose: Purpose) -> tuple[Way, Way]:
    """Returns two ways of which the second brings everyone home.

    It is the transpose of the first: those who arrived at a cell leave it, and cell i is home to
    them in proportion to its nearness x origin_i / felt_i. People return less punctually.
    """
    origin = purpose.share * land_use.shares[purpose.origin]
    pull = land_use.shares[purpose.destination]
    kernel = _kernel(city, purpose.reach)
    felt = _spread(pull, kernel)
    home = origin / felt
    arrived = _spread(home, kernel)
    there = [[(hour, spread, many) for hour, spread, _, many in day] for day in purpose.trips]
    back = [
        [(hour + stay, 1.2 * spread, many) for hour, spread, stay, many in day]
        for day in purpose.trips
    ]
    return (
        Way(origin, felt, pull, kernel, _rhythm(city, there), purpose.rain),
        Way(pull * arrived, arrived, home, kernel, _rhythm(city, back), purpose.rain),
    )


def _rhythm(city: City, kinds: list[list[tuple[float, float, float]]]) -> np.ndarray:
    """Returns the part of the trips in each slot, dims `(kind, day, slot)`."""
    days = [
        np.sum([many * in_slots(city, hour, spread, 2) for hour, spread, many in trips], axis=0)
        for trips in kinds
    ]
    return np.stack(days).reshape(len(kinds), 2, -1)


def _kernel(city: City, reach: float) -> np.ndarray:
    """Returns the spectrum of exp(-distance / reach) by delay in steps, dims `(delay, y, x)`.

    Trips leave at any moment of a slot, so a delay of 1.3 steps is 1 step for 70 % of them. The
    grid is padded to twice its size, where a convolution does not come round.
    """
    y, x = (np.fft.fftfreq(2 * n, 1 / (2 * n)) * EXTENT / max(city.grid) for n in city.grid)
    distance = np.hypot(y[:, None], x)
    delay = travel_hours(distance) / (city.step / HOUR)
    delays = np.arange(int(delay.max()) + 2)[:, None, None]
    parts = np.exp(-distance / reach) * np.clip(1 - np.abs(delay - delays), 0, 1)
    return np.fft.rfft2(parts).astype(np.complex64)


def travel_hours(distance: np.ndarray) -> np.ndarray:
    """Returns the hours that some km take; no trip takes longer than an hour."""
    return np.minimum(0.08 + distance / 30, 1.0)


def _spread(field: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Returns the convolution of a field `(y, x)` with a kernel, whatever the delay."""
    rows, columns = field.shape
    size = (2 * rows, 2 * columns)
    spectrum = np.fft.rfft2(field, size) * kernel.sum(axis=0)
    return np.fft.irfft2(spectrum, size)[:rows, :columns]


def arrivals(way: Way, leave: np.ndarray, late: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where and when trips arrive, and the spectra of the last ones for the next day.

    Args:
        way: of the trips.
        leave: departures of a day, dims `(slot, y, x)`.
        late: spectra of the departures before, as many slots as the longest delay.
    """
    slots, rows, columns = leave.shape
    size = (2 * rows, 2 * columns)
    spectra = np.concatenate([late, np.fft.rfft2(leave / way.felt.astype(np.float32), size)])
    total = np.zeros_like(spectra[:slots])
    for delay, kernel in enumerate(way.kernel):
        start = len(late) - delay
        total += kernel * spectra[start : start + slots]
    arrive = np.fft.irfft2(total, size)[:, :rows, :columns] * way.pull.astype(np.float32)
    return np.maximum(arrive, 0), spectra[-len(late) :]


def in_slots(city: City, hour: float, spread: float, days: int = 1) -> np.ndarray:
    """Returns the parts of trips, logistic around `hour`, in each slot of one or more days."""
    edges = np.linspace(0, 24 * days, days * city.slots_per_day + 1)
    return np.diff(np.tanh((edges - hour) / (2 * spread))) / 2
