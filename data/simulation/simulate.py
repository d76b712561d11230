"""A simulated city whose expected flow is known, and with it the error no forecast can go below.

People live, work, shop, go out and travel somewhere (land use). They go from one such place to
another by a gravity model at the hours of that day of the week, arrive later than they leave, and
come back, so that a day is balanced. On top lies what only the last slots can tell: days that run
hot or cold, rain, holidays, the day's event, quarters that are busier than usual for some hours.
The counts are Poisson around this expected flow.

Everything is computed in wall time, where each day has 24 hours: nonexistent slots are left out, ambiguous
ones are given once. Distances are in km; the longer side of
every city is 32 km. A longer simulation begins with the shorter one of the same seed.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from data.city import City
from data.errors import FlowcastError
from data.simulation.land_use import WAVES, LandUse, land_use_of, waves
from data.simulation.trips import BUSIEST, HOUR, KINDS, arrivals, in_slots, travel_hours, ways_of

FIRST_DAY = np.datetime64("2025-03-03", "s")  # a Monday
MAX_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Simulation:
    """A simulated flow, dims `(time, channel, y, x)`, channels inflow and outflow.

    Attributes:
        expected: float32 vehicles per step, the mean of the counts.
        counts: whole vehicles per step, float32.
        time: start of each slot, UTC, `datetime64[s]`.
    """

    expected: np.ndarray
    counts: np.ndarray
    time: np.ndarray


def simulate(city: City, weeks: int = 12, seed: int = 0) -> Simulation:
    """Returns `weeks` weeks of a city with the grid, step and timezone of `city`.

    They begin at local midnight of Monday, 2025-03-03.

    Raises:
        FlowcastError: less than a week, more than 8 GiB, or a seed below 0.
    """
    _check_size(city, weeks)
    *streams, draws = _streams(seed)
    time, exists = _time(city, weeks)
    expected = np.empty((len(time), 2, *city.grid), dtype=np.float32)
    counts = np.empty_like(expected)
    start = 0
    for day, kept in zip(_days(city, weeks, streams), exists, strict=True):
        part = slice(start, start := start + int(kept.sum()))
        expected[part] = day[kept]
        counts[part] = draws.poisson(day)[kept]
    return Simulation(expected, counts, time)


def foreseen(city: City, lead: int, weeks: int = 12, seed: int = 0) -> np.ndarray:
    """Returns the best possible forecast of the flow of `simulate`, `lead` slots ahead.

    Known are the city and its days, future rain and events, and how busy the quarters were `lead` slots
    before; of trips that arrive even how busy their origins were. The mean stands for how the quarters
    change in between. No forecast can be better; with `lead` 0 it is the expected flow itself.

    Returns:
        float32 `(time, channel, y, x)`, vehicles per step.
    """
    _check_size(city, weeks)
    *streams, _ = _streams(seed)
    _, exists = _time(city, weeks)
    days = zip(_days(city, weeks, streams, lead), exists, strict=True)
    return np.concatenate([day[kept] for day, kept in days]).astype(np.float32)


def _streams(seed: int) -> list[np.random.Generator]:
    if seed < 0:
        raise FlowcastError(f"the seed {seed} is negative; choose 0 or more")
    return [np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(8)]


def _check_size(city: City, weeks: int) -> None:
    """Raises FlowcastError for less than a week and for more than 8 GiB, working space included."""
    if weeks < 1:
        raise FlowcastError(f"a simulation of {weeks} weeks is too short; ask for 1 week or more")
    day = city.slots_per_day
    cell = 7 * weeks * day * 2 * 8 + day * 100 + WAVES * 32
    if (size := city.grid[0] * city.grid[1] * cell) > MAX_BYTES:
        raise FlowcastError(
            f"{weeks:,} weeks of {day} slots a day on {city.grid[0]}x{city.grid[1]} cells take "
            f"{size / 2**30:,.1f} GiB, more than {MAX_BYTES / 2**30:.0f} GiB; ask for fewer weeks, "
            f"a longer step or a smaller grid"
        )


def _time(city: City, weeks: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the UTC times of the slots and, dims `(day, slot)`, which wall times exist."""
    slots = 7 * weeks * city.slots_per_day
    zoned = pd.DatetimeIndex(FIRST_DAY + np.arange(slots) * city.step).tz_localize(
        city.timezone, ambiguous=np.ones(slots, dtype=bool), nonexistent="NaT"
    )
    exists = ~np.asarray(zoned.isna())
    time = zoned[exists].tz_convert("UTC").tz_localize(None).to_numpy(dtype="datetime64[s]")
    return time, exists.reshape(7 * weeks, -1)


def _days(
    city: City, weeks: int, streams: list[np.random.Generator], lead: int = 0
) -> Iterator[np.ndarray]:
    """Yields the expected flow of each day as foreseen `lead` slots before, `(slot, channel, y, x)`.

    A day before the first runs to send off those who arrive after midnight, and is not yielded.
    """
    land, calendar, mood, weather, events, leaving, arriving = streams
    land_use = land_use_of(city, land)
    ways = ways_of(city, land_use)
    late = [np.zeros_like(way.kernel[1:]) for way in ways]
    days = zip(
        pairwise(_kinds(weeks, calendar)),
        _moods(mood),
        _rain(city, weather),
        _quarters(city, land_use, leaving, lead),
        _quarters(city, land_use, arriving, lead),
        strict=False,
    )
    for number, ((before, kind), busy, rain, (push, seen), (_, pull)) in enumerate(days):
        inflow, outflow = np.zeros_like(push), np.zeros_like(push)
        for n, way in enumerate(ways):
            rhythm = way.rhythm[kind, 0] + way.rhythm[before, 1]
            rhythm = busy * rhythm * (1 + way.rain * rain)
            mean = rhythm[:, None, None] * way.origin
            arrive, late[n] = arrivals(way, (push * mean).astype(np.float32), late[n])
            outflow += seen * mean
            inflow += arrive
        moved = inflow * pull
        inflow = moved * (inflow.sum((1, 2)) / moved.sum((1, 2)))[:, None, None]
        flow = np.stack([inflow, outflow], axis=1) + _event(city, land_use, kind, events)
        if number:
            yield flow


def _kinds(weeks: int, rng: np.random.Generator) -> list[int]:
    """Returns the kind of each day, from two days before the first on.

    One workday in four weeks is a holiday.
    """
    kinds = weeks * [0, 0, 0, 0, 1, 2, 3]
    for start in range(0, len(kinds), 28):
        holiday = start + 7 * int(rng.integers(4)) + int(rng.integers(5))
        if holiday < len(kinds):
            kinds[holiday] = KINDS.index("holiday")
    return [2, 3, *kinds]


def _moods(rng: np.random.Generator) -> Iterator[float]:
    """Yields the level of each day: AR(1), deviation about 9 %."""
    mood = rng.normal()
    while True:
        yield 1 + 0.15 * float(np.tanh(mood))
        mood = 0.5 * mood + np.sqrt(1 - 0.5**2) * rng.normal()


def _rain(city: City, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields the mean rain in each slot of a day, 0 to 1; spells of 5 hours, 30 hours apart."""
    edges = np.linspace(0, 24, city.slots_per_day + 1)
    rain = 0.0
    while True:
        fallen = [0.0]
        for change, strength in rng.random((24, 2)):
            if change < (1 / 5 if rain else 1 / 30):
                rain = 0.0 if rain else 0.4 + 0.6 * strength
            fallen.append(fallen[-1] + rain)
        yield np.diff(np.interp(edges, np.arange(25), fallen)) / np.diff(edges)


def _quarters(
    city: City, land_use: LandUse, rng: np.random.Generator, lead: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields how busy the cells are relative to the mean, and as foreseen, for each day `(slot, y, x)`.

    A field smooth over 5 km that keeps itself for 5 hours, deviation about 19 %.
    """
    field = waves(land_use.y, land_use.x, 5.0, rng)
    kept = np.exp(-city.step / (5 * HOUR))
    # What is kept of the weights `lead` slots before, and how far they may have moved since.
    left, moved = kept**lead, np.sqrt(1 - kept ** (2 * lead))
    weights = rng.normal(size=2 * WAVES)
    before = deque([weights] * (lead + 1), maxlen=lead + 1)
    while True:
        day = rng.normal(size=(city.slots_per_day, 2 * WAVES))
        old = np.empty_like(day)
        for slot, new in enumerate(day):
            weights = day[slot] = kept * weights + np.sqrt(1 - kept**2) * new
            before.append(weights.copy())
            old[slot] = before[0]
        busy, known = (np.tensordot(one.astype(np.float32), field, (1, 2)) for one in (day, old))
        yield 1 + 0.3 * np.tanh(busy), 1 + 0.3 * _mean_tanh(left * known, moved)


def _mean_tanh(middle: np.ndarray, deviation: float) -> np.ndarray:
    """Returns the mean of tanh of normal numbers about `middle`, by Gauss and Hermite's rule."""
    if deviation == 0:
        return np.asarray(np.tanh(middle))
    places, weights = np.polynomial.hermite_e.hermegauss(9)
    parts = zip(places, weights / weights.sum(), strict=True)
    return np.asarray(sum(weight * np.tanh(middle + deviation * at) for at, weight in parts))


def _event(city: City, land_use: LandUse, kind: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the trips to and from a day's event, if it has one, dims `(slot, channel, y, x)`.

    Visitors come from homes nearby, arrive in the two hours before and leave together.
    """
    y, x = land_use.venues[rng.integers(len(land_use.venues))]
    visitors = BUSIEST * rng.uniform(0.03, 0.07) * (rng.random() < 0.9)
    afternoon = rng.random() < 0.5 and kind >= KINDS.index("saturday")
    begin, end = (14.25, 17.4) if afternoon else (18.75, 21.9)
    distance = np.hypot(land_use.y - land_use.y[y, x], land_use.x - land_use.x[y, x])
    homes = land_use.shares["homes"] * np.exp(-distance / 6)
    homes = homes / homes.sum()
    travel = float((homes * travel_hours(distance)).sum())
    flow = np.zeros((city.slots_per_day, 2, *city.grid), dtype=np.float32)
    flow[:, 1] = np.multiply.outer(in_slots(city, begin - travel, 0.3), visitors * homes)
    flow[:, 0] = np.multiply.outer(in_slots(city, end + travel, 0.3), visitors * homes)
    flow[:, 0, y, x] += visitors * in_slots(city, begin, 0.3)
    flow[:, 1, y, x] += visitors * in_slots(city, end, 0.25)
    return flow
