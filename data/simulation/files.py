"""The files of a simulated city, in the TaxiBJ layout."""

import json
from pathlib import Path

import numpy as np

from data.city import City
from data.clock import local
from data.files import ensure_folder, write_text
from data.formats.taxibj import EXPECTED, write_taxibj
from data.simulation.simulate import simulate


def write_simulation(folder: Path, city: City, weeks: int, seed: int) -> list[Path]:
    """Writes a simulation in the TaxiBJ layout and returns the paths of its files.

    They are the counts, one file a calendar year, then `expected.h5` with the expected flow, then
    the city's TOML file, ready to be copied to `FLOWCAST_HOME/cities`.

    Raises:
        FlowcastError: the simulation is too short or too large, or a file cannot be written.
    """
    simulation = simulate(city, weeks, seed)
    ensure_folder(folder)
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
    write_text(description, _toml(city))
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
