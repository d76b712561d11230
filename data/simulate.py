"""A simulated city whose expected flow is known, and with it the error no forecast can go below.

People live, work, shop, go out and travel somewhere (land use). They go from one such place to
another by a gravity model at the hours of that day of the week, arrive later than they leave, and
come back, so that a day is balanced. On top lies what only the last slots can tell: days that run
hot or cold, rain, holidays, the day's event, quarters that are busier than usual for some hours.
The counts are Poisson around this expected flow.

Everything is computed in wall time, where each day has 24 hours; slots that clocks set forward skip
are left out, those that clocks set back repeat stand once. Distances are in km; the longer side of
every city is 32 km. A longer simulation begins with the shorter one of the same seed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from data.city import City
from data.clock import local
from data.errors import FlowcastError
from data.files import make_folder, write_whole
from data.taxibj import EXPECTED, write_taxibj

FIRST_DAY = np.datetime64("2025-03-03", "s")  # a Monday
EXTENT = 32.0
BUSIEST = 20_500.0  # departures of the busiest cell on an ordinary workday
MOST_BYTES = 8 * 2**30
WAVES = 64
HOUR = np.timedelta64(3600, "s")


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
    if seed < 0:
        raise FlowcastError(f"the seed {seed} is negative; choose 0 or more")
    *streams, draws = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(8))
    time, exists = _time(city, weeks)
    expected = np.empty((len(time), 2, *city.grid), dtype=np.float32)
    counts = np.empty_like(expected)
    start = 0
    for day, kept in zip(_days(city, weeks, streams), exists, strict=True):
        part = slice(start, start := start + int(kept.sum()))
        expected[part] = day[kept]
        counts[part] = draws.poisson(day)[kept]
    return Simulation(expected, counts, time)


def write_simulation(folder: Path, city: City, weeks: int, seed: int) -> list[Path]:
    """Writes a simulation in the TaxiBJ layout and returns the paths of its files.

    They are the counts, one file a calendar year, then `expected.h5` with the expected flow, then
    the city's TOML file, ready to be copied to `FLOWCAST_HOME/cities`.

    Raises:
        FlowcastError: the simulation is too short or too large, or a file cannot be written.
    """
    simulation = simulate(city, weeks, seed)
    make_folder(folder)
    minutes = city.step / np.timedelta64(60, "s")
    size = f"M{city.grid[0]}x{city.grid[1]}_T{minutes:g}"
    years = local(simulation.time, city.timezone).year.to_numpy()
    counts = {
        folder / f"{city.name.upper()}{year % 100:02}_{size}_InOut.h5": years == year
        for year in np.unique(years)
    }
    for path, part in counts.items():
        write_taxibj(path, simulation.counts[part], simulation.time[part], city)
    expected = folder / "expected.h5"
    write_taxibj(expected, simulation.expected, simulation.time, city, content=EXPECTED)
    description = folder / f"{city.name}.toml"
    with write_whole(description) as temporary:
        temporary.write_text(_toml(city), encoding="utf-8")
    return [*counts, expected, description]


def _toml(city: City) -> str:
    """Returns the text of the file that describes `city`."""
    seconds = int(city.step / np.timedelta64(1, "s"))
    values = {
        "title": city.title,
        "timezone": city.timezone,
        "step": f"{seconds}s" if seconds % 60 else f"{seconds // 60}min",
        "grid": city.grid,
        "first_slot": city.first_slot,
        "test_days": city.test_days,
        "validation_days": city.validation_days,
        "row0": city.row0,
        **({"bbox": city.bbox} if city.bbox else {}),
    }
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["# A simulated city; its expected flow is known.", *lines, ""])


def _check_size(city: City, weeks: int) -> None:
    """Raises FlowcastError for less than a week and for more than 8 GiB, working space included."""
    if weeks < 1:
        raise FlowcastError(f"a simulation of {weeks} weeks is too short; ask for 1 week or more")
    day = city.slots_per_day
    cell = 7 * weeks * day * 2 * 8 + day * 100 + WAVES * 32
    if (size := city.grid[0] * city.grid[1] * cell) > MOST_BYTES:
        raise FlowcastError(
            f"{weeks:,} weeks of {day} slots a day on {city.grid[0]}x{city.grid[1]} cells take "
            f"{size / 2**30:,.1f} GiB, more than {MOST_BYTES / 2**30:.0f} GiB; ask for fewer weeks, "
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


def _days(city: City, weeks: int, streams: list[np.random.Generator]) -> Iterator[np.ndarray]:
    """Yields the expected flow of each day, dims `(slot, channel, y, x)`.

    A day before the first runs to send off those who arrive after midnight, and is not yielded.
    """
    land, calendar, mood, weather, events, leaving, arriving = streams
    town = _town(city, land)
    ways = _ways(city, town)
    late = [np.zeros_like(way.kernel[1:]) for way in ways]
    days = zip(
        pairwise(_kinds(weeks, calendar)),
        _moods(mood),
        _rain(city, weather),
        _quarters(city, town, leaving),
        _quarters(city, town, arriving),
        strict=False,
    )
    for number, ((before, kind), busy, rain, push, pull) in enumerate(days):
        inflow, outflow = np.zeros_like(push), np.zeros_like(push)
        for n, way in enumerate(ways):
            rhythm = way.rhythm[kind, 0] + way.rhythm[before, 1]
            rhythm = busy * rhythm * (1 + way.rain * rain)
            leave = push * (rhythm[:, None, None] * way.origin)
            arrive, late[n] = _arrivals(way, leave.astype(np.float32), late[n])
            outflow += leave
            inflow += arrive
        moved = inflow * pull
        inflow = moved * (inflow.sum((1, 2)) / moved.sum((1, 2)))[:, None, None]
        flow = np.stack([inflow, outflow], axis=1) + _event(city, town, kind, events)
        if number:
            yield flow


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


def _in_slots(city: City, hour: float, spread: float, days: int = 1) -> np.ndarray:
    """Returns the parts of trips, logistic around `hour`, in each slot of one or more days."""
    edges = np.linspace(0, 24 * days, days * city.slots_per_day + 1)
    return np.diff(np.tanh((edges - hour) / (2 * spread))) / 2


@dataclass(frozen=True)
class Town:
    """What stays as it is.

    Attributes:
        y, x: positions of the cells, km from the middle, dims `(y, x)`.
        land: fields `(y, x)` by land use, each with sum 1.
        venues: row and column of the cells where events take place.
    """

    y: np.ndarray
    x: np.ndarray
    land: dict[str, np.ndarray]
    venues: tuple[tuple[int, int], ...]


def _town(city: City, rng: np.random.Generator) -> Town:
    """Returns a city of two centres with quarters around them, a river and parks."""
    cell = EXTENT / max(city.grid)
    y, x = np.meshgrid(*(cell * (np.arange(n) - (n - 1) / 2) for n in city.grid), indexing="ij")

    def hills(points: np.ndarray, width: float) -> np.ndarray:
        width = max(width, 0.6 * cell)
        square = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
        return np.asarray(np.exp(-square / (2 * width**2)).sum(axis=-1))

    first = rng.normal(0, 1.5, (1, 2))
    second, quarters, bars, stations, parks, venues = (
        first + _around(number, radius, rng)
        for number, radius in [(1, 8.0), (7, 9.0), (5, 4.0), (4, 6.0), (5, 8.0), (4, 8.0)]
    )
    lumps = _waves(y, x, 2.0, rng) @ rng.normal(size=2 * WAVES)
    bend, slope = rng.normal(0, 1, 2)
    river = y - first[0, 0] - 3 - 2.5 * np.sin(x / 6 + bend) - 0.25 * slope * x
    built = 1 - 0.93 * np.exp(-((river / max(0.7, 0.4 * cell)) ** 2))
    built = built * np.clip(1 - 0.95 * hills(parks, 1.1), 0.05, 1)
    inner = hills(first, 13.0) + 0.3 * hills(second, 7.0) + 0.05
    homes = inner * (1 - 0.5 * hills(first, 3.0)) * np.exp(0.45 * lumps)
    work = hills(first, 6.0) + 0.4 * hills(second, 4.5) + 0.3 * hills(quarters, 2.4)
    offices = (work + 0.2 * inner) * np.exp(0.3 * lumps)
    shops = (
        0.4 * hills(first, 8.0) + 0.2 * hills(quarters, 3.0) + 0.8 * inner * np.exp(0.45 * lumps)
    )
    land = {
        "homes": homes * built,
        "offices": offices * built,
        "shops": shops * built,
        "leisure": (0.7 * hills(first, 4.5) + 0.6 * hills(bars, 1.8) + 0.15 * inner) * built,
        "stations": hills(stations, 1.2) + 0.004 * inner,
        "anywhere": (homes / homes.sum() + offices / offices.sum()) * built,
    }
    nearest = [int(np.hypot(y - venue[0], x - venue[1]).argmin()) for venue in venues]
    places = tuple((n // city.grid[1], n % city.grid[1]) for n in nearest)
    return Town(y, x, {use: field / field.sum() for use, field in land.items()}, places)


def _around(number: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Returns points on a rough ring, none close to the next, dims `(point, 2)`."""
    turn = (np.arange(number) + rng.uniform(-0.3, 0.3, number)) / number + rng.random()
    away = radius * rng.uniform(0.6, 1.4, number)
    return np.stack([away * np.sin(2 * np.pi * turn), away * np.cos(2 * np.pi * turn)], axis=-1)


def _waves(y: np.ndarray, x: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Returns waves `(y, x, wave)` whose sum, weighted by normal numbers, is a smooth random field.

    On every grid it has variance 1 and correlation exp(-distance^2 / (2 reach^2)) (Rahimi and
    Recht, Random features for large-scale kernel machines, 2007).
    """
    ky, kx = rng.normal(0, 1 / reach, (2, WAVES))
    phase = (y[..., None] * ky + x[..., None] * kx).astype(np.float32)
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=-1) / np.float32(np.sqrt(WAVES))


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


def _ways(city: City, town: Town) -> list[Way]:
    """Returns all ways, scaled so that BUSIEST trips leave the busiest cell on a workday."""
    ways = [way for purpose in PURPOSES for way in _there_and_back(city, town, purpose)]
    most = np.sum([way.origin * way.rhythm[0].sum() for way in ways], axis=0).max()
    return [replace(way, origin=way.origin * BUSIEST / most) for way in ways]


def _there_and_back(city: City, town: Town, purpose: Purpose) -> tuple[Way, Way]:
    """Returns two ways of which the second brings everyone home.

    It is the transpose of the first: those who arrived at a cell leave it, and cell i is home to
    them in proportion to its nearness x origin_i / felt_i. People return less punctually.
    """
    origin = purpose.share * town.land[purpose.origin]
    pull = town.land[purpose.destination]
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
        np.sum([many * _in_slots(city, hour, spread, 2) for hour, spread, many in trips], axis=0)
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
    delay = _travel_hours(distance) / (city.step / HOUR)
    delays = np.arange(int(delay.max()) + 2)[:, None, None]
    parts = np.exp(-distance / reach) * np.clip(1 - np.abs(delay - delays), 0, 1)
    return np.fft.rfft2(parts).astype(np.complex64)


def _travel_hours(distance: np.ndarray) -> np.ndarray:
    """Returns the hours that some km take; no trip takes longer than an hour."""
    return np.minimum(0.08 + distance / 30, 1.0)


def _spread(field: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Returns the convolution of a field `(y, x)` with a kernel, whatever the delay."""
    rows, columns = field.shape
    size = (2 * rows, 2 * columns)
    spectrum = np.fft.rfft2(field, size) * kernel.sum(axis=0)
    return np.fft.irfft2(spectrum, size)[:rows, :columns]


def _arrivals(way: Way, leave: np.ndarray, late: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _moods(rng: np.random.Generator) -> Iterator[float]:
    """Yields how hot or cold each day runs: AR(1), deviation about 9 %."""
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


def _quarters(city: City, town: Town, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields how busy the cells are beside the usual, for each day `(slot, y, x)`.

    A field smooth over 5 km that keeps itself for 5 hours, deviation about 19 %.
    """
    waves = _waves(town.y, town.x, 5.0, rng)
    kept = np.exp(-city.step / (5 * HOUR))
    weights = rng.normal(size=2 * WAVES)
    while True:
        day = rng.normal(size=(city.slots_per_day, 2 * WAVES))
        for slot, new in enumerate(day):
            weights = day[slot] = kept * weights + np.sqrt(1 - kept**2) * new
        yield 1 + 0.3 * np.tanh(np.tensordot(day.astype(np.float32), waves, (1, 2)))


def _event(city: City, town: Town, kind: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the trips to and from a day's event, if it has one, dims `(slot, channel, y, x)`.

    Visitors come from homes nearby, arrive in the two hours before and leave together.
    """
    y, x = town.venues[rng.integers(len(town.venues))]
    visitors = BUSIEST * rng.uniform(0.03, 0.07) * (rng.random() < 0.9)
    afternoon = rng.random() < 0.5 and kind >= KINDS.index("saturday")
    begin, end = (14.25, 17.4) if afternoon else (18.75, 21.9)
    distance = np.hypot(town.y - town.y[y, x], town.x - town.x[y, x])
    homes = town.land["homes"] * np.exp(-distance / 6)
    homes = homes / homes.sum()
    travel = float((homes * _travel_hours(distance)).sum())
    flow = np.zeros((city.slots_per_day, 2, *city.grid), dtype=np.float32)
    flow[:, 1] = np.multiply.outer(_in_slots(city, begin - travel, 0.3), visitors * homes)
    flow[:, 0] = np.multiply.outer(_in_slots(city, end + travel, 0.3), visitors * homes)
    flow[:, 0, y, x] += visitors * _in_slots(city, begin, 0.3)
    flow[:, 1, y, x] += visitors * _in_slots(city, end, 0.25)
    return flow
