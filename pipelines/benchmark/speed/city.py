"""A home for benchmarks: simulated cities with a champion each, in a folder of their own."""

import atexit
import json
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from data.city import City, load_city
from data.flow import label
from data.paths import version_folder
from data.simulation.simulate import simulate
from data.store.ingests import Source
from data.store.store import Store
from forecasting.city.recipe import Recipe
from forecasting.registry.manifest import MANIFEST
from forecasting.training.hardware import Computing
from pipelines.train.city import RunOptions, train
from pipelines.train.version import Trained

TOML = """
title = "{name}"
timezone = "Asia/Shanghai"
step = "30min"
grid = [{side}, {side}]
test_days = {test_days}
validation_days = 7
"""


def temporary_home(count: int, side: int, weeks: int) -> list[City]:
    """Returns cities that are ready to be forecast in a home that lasts as long as this process.

    They have the same flow and the same champion, trained for a moment: as fast as any other. It is
    made by another process, so that this one takes no more memory than forecasting needs.

    Args:
        count: of cities.
        side: cells along the side of their grid.
        weeks: of flow, all but the first four of them to test on, or one.
    """
    folder = tempfile.mkdtemp(prefix="flowcast-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["FLOWCAST_HOME"] = folder
    os.environ.pop("FLOWCAST_STORE", None)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_make, Path(folder), count, side, weeks).result()


def _make(folder: Path, count: int, side: int, weeks: int) -> list[City]:
    """Returns the cities of a home that the environment names."""
    cities = [_city(folder, f"town{number:02}", side, weeks) for number in range(count)]
    simulation = simulate(cities[0], weeks)
    store = Store()
    try:
        for city in cities:
            flow = label(simulation.counts, simulation.time, city)
            store.flow.add(city, flow, source=Source("simulation", ""))
        recipe = Recipe.from_options(ensemble_size=1, refit=False, epochs=1, minutes=0.05)
        *_, trained = train(store, cities[0], recipe, options=RunOptions(Computing("cpu")))
        assert isinstance(trained, Trained)
        for city in cities:
            _give(cities[0], trained.manifest.version, city)
            store.promotions.promote(city, trained.manifest.version, "for a benchmark")
    finally:
        store.close()
    return cities


def _city(folder: Path, name: str, side: int, weeks: int) -> City:
    path = folder / "cities" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TOML.format(name=name, side=side, test_days=7 * max(1, weeks - 4)))
    return load_city(name)


def _give(owner: City, version: str, city: City) -> None:
    """Gives another city a copy of a version."""
    if city == owner:
        return
    source, target = (version_folder(one.name, version) for one in (owner, city))
    shutil.copytree(source, target)
    manifest = json.loads((source / MANIFEST).read_text())
    (target / MANIFEST).write_text(json.dumps({**manifest, "city": city.name}))
