"""Land use of a simulated city: where people live, work, go out, shop and arrive."""

from dataclasses import dataclass

import numpy as np

from data.city import City

EXTENT = 32.0
"""Length in km of the longer side of every city."""
WAVES = 64


@dataclass(frozen=True)
class LandUse:
    """What does not change from day to day.

    Attributes:
        y, x: positions of the cells, km from the middle, dims `(y, x)`.
        shares: fields `(y, x)` by land use, each with sum 1.
        venues: row and column of the cells where events take place.
    """

    y: np.ndarray
    x: np.ndarray
    shares: dict[str, np.ndarray]
    venues: tuple[tuple[int, int], ...]


def land_use_of(city: City, rng: np.random.Generator) -> LandUse:
    """Returns a city of two centers with quarters around them, a river and parks."""
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
    lumps = waves(y, x, 2.0, rng) @ rng.normal(size=2 * WAVES)
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
    return LandUse(y, x, {use: field / field.sum() for use, field in land.items()}, places)


def _around(number: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Returns points on a rough ring, none close to the next, dims `(point, 2)`."""
    turn = (np.arange(number) + rng.uniform(-0.3, 0.3, number)) / number + rng.random()
    away = radius * rng.uniform(0.6, 1.4, number)
    return np.stack([away * np.sin(2 * np.pi * turn), away * np.cos(2 * np.pi * turn)], axis=-1)


def waves(y: np.ndarray, x: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Returns waves `(y, x, wave)` whose sum, weighted by normal numbers, is a smooth random field.

    On every grid it has variance 1 and correlation exp(-distance^2 / (2 reach^2)) (Rahimi and
    Recht, Random features for large-scale kernel machines, 2007).
    """
    ky, kx = rng.normal(0, 1 / reach, (2, WAVES))
    phase = (y[..., None] * ky + x[..., None] * kx).astype(np.float32)
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=-1) / np.float32(np.sqrt(WAVES))
