"""A home for benchmarks: simulated cities with a champion each, in a folder of their own."""

import atexit
import json
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from data.city import City
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


def temporary_home(count: int, side: int, weeks: int) -> list[City]:
    """Returns cities that are ready to be forecast in a home that lasts as long as this process.

    They have the same flow on `side` x `side` cells and the same champion, trained for a moment: as fast as
    any other. All weeks but the first four are to test on, or one. It is made by another process, so that
    this one takes no more memory than forecasting needs.
    """
    folder = tempfile.mkdtemp(prefix="flowcast-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["FLOWCAST_HOME"] = folder
    os.environ.pop("FLOWCAST_STORE", None)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_make, count, side, weeks).result()


def _make(count: int, side: int, weeks: int) -> list[City]:
    cities = [
        City(
            *(f"city{number:02}", f"City {number}", "Asia/Shanghai"),
            *(np.timedelta64(1800, "s"), (side, side)),
            test_days=7 * max(1, weeks - 4),
        )
        for number in range(count)
    ]
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
        source = version_folder(cities[0].name, version)
        manifest = json.loads((source / MANIFEST).read_text())
        for city in cities:
            folder = version_folder(city.name, version)
            if city != cities[0]:
                shutil.copytree(source, folder)
                (folder / MANIFEST).write_text(json.dumps({**manifest, "city": city.name}))
            store.promotions.promote(city, version, "for a benchmark")
    finally:
        store.close()
    return cities
