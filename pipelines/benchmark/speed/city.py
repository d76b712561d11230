"""A home for benchmarks: simulated cities with a champion each, in a folder of their own."""

import atexit
import json
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from data.city import City, load_city
from data.files import write_text
from data.flow import label
from data.paths import city_file, version_folder
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
        return pool.submit(_make, count, side, weeks).result()


def _make(count: int, side: int, weeks: int) -> list[City]:
    names = [f"city{number:02}" for number in range(count)]
    for name in names:
        toml = TOML.format(name=name, side=side, test_days=7 * max(1, weeks - 4))
        write_text(city_file(name), toml)
    cities = [load_city(name) for name in names]
    simulation = simulate(cities[0], weeks)
    store = Store()
    try:
        for city in cities:
            flow = label(simulation.counts, simulation.time, city)
            store.flow.add(city, flow, source=Source("simulation", ""))
        recipe = Recipe.from_options(ensemble_size=1, refit=False, epochs=1, minutes=0.05)
        *_, trained = train(store, cities[0], recipe, options=RunOptions(Computing("cpu")))
        assert isinstance(trained, Trained)
        version = trained.manifest.version
        source = version_folder(names[0], version)
        manifest = json.loads((source / MANIFEST).read_text())
        for city in cities:
            if city != cities[0]:
                copy = shutil.copytree(source, version_folder(city.name, version))
                (copy / MANIFEST).write_text(json.dumps({**manifest, "city": city.name}))
            store.promotions.promote(city, version, "for a benchmark")
    finally:
        store.close()
    return cities
