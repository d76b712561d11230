"""Days of operation played at speed: as they should go, and killed at any moment.

With `FLOWCAST_REHEARSAL_DAYS=30`, `FLOWCAST_REHEARSAL_EPOCHS=3` and `FLOWCAST_REHEARSAL_KILLS=100` it plays
a month and kills a hundred times; with `FLOWCAST_REHEARSAL_CITY=demo` the city is that of `make demo`.
"""

import logging
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr

from data.city import City, load_city
from data.paths import models_root
from data.store.runs import DONE
from data.store.scores import SERVED
from data.store.store import Store
from forecasting.baselines import BASELINES
from forecasting.city.recipe import Recipe
from forecasting.registry.integrity import verify
from forecasting.registry.manifest import versions
from forecasting.registry.versions import load_version
from forecasting.training.hardware import Computing
from pipelines.ingest.replay import from_archive, play, store_past, target_city
from pipelines.operate.due_times import nightly_slot
from pipelines.operate.nightly import nightly
from pipelines.operate.update import update
from pipelines.train.city import RunOptions

DAYS = int(os.environ.get("FLOWCAST_REHEARSAL_DAYS", "1"))
KILLS = int(os.environ.get("FLOWCAST_REHEARSAL_KILLS", "4"))
EPOCHS = int(os.environ.get("FLOWCAST_REHEARSAL_EPOCHS", "1"))
CITY = os.environ.get("FLOWCAST_REHEARSAL_CITY", "small")
HORIZON = 3
RECIPE = Recipe.from_options(
    ensemble_size=1, refit=False, trees=False, epochs=EPOCHS, horizon=HORIZON
)
HELD = 3
"""Days by which candidates are judged."""


class Stage(NamedTuple):
    """A city that is played into another one, from the first day that is left for it."""

    source: City
    city: City
    flow: xr.DataArray

    @property
    def times(self) -> np.ndarray:
        return np.asarray(self.flow["time"].values)


@pytest.fixture
def stage(small_home: Path) -> Iterator[Stage]:
    store, source = Store(), load_city(CITY)
    if CITY != "small":
        _settle(store, source)
    city = target_city(source, f"{CITY}-live")
    span = store.flow.span(source)
    assert span is not None
    first = span[1] - (source.slots_per_day * min(DAYS, 6) - 1) * source.step if DAYS < 7 else None
    if DAYS >= 7:  # more days than the shared archive has for it: five more weeks follow
        _lengthen(store, source)
        first = span[1] + source.step
    _, flow = store_past(store, source, city, from_archive(store, source, first))
    store.close()
    yield Stage(source, city, flow[: source.slots_per_day * DAYS])


def _settle(store: Store, city: City) -> None:
    """Gives another city what `small` has: five weeks."""
    from data.flow import label
    from data.simulation.simulate import simulate
    from data.store.ingests import Source

    begun = simulate(city, 5, 1)
    store.flow.add(city, label(begun.counts, begun.time, city), source=Source("five weeks", ""))


def _lengthen(store: Store, city: City) -> None:
    """Adds the weeks that follow in the same simulation."""
    from data.flow import label
    from data.simulation.simulate import simulate
    from data.store.ingests import Source

    whole = simulate(city, 5 + DAYS // 7 + 1, 1)
    span = store.flow.span(city)
    assert span is not None
    new = whole.time > span[1]
    flow = label(whole.counts[new], whole.time[new], city)
    store.flow.add(city, flow, source=Source("more weeks", ""))


def work(job: str, name: str, now: np.datetime64) -> None:
    """Does a slot as the processes of the scheduler do: claimed, done, told."""
    store, city = Store(), load_city(name)
    slot = now if job == "step" else nightly_slot(city, now)
    claim = store.runs.claim(job, name, slot, now, 600)
    if claim is None:
        return
    if job == "step":
        update(store, city, now, horizon=HORIZON, wall=time.time() + 60)
    else:
        options = RunOptions(Computing("cpu"))
        for event in nightly(store, city, now, recipe=RECIPE, options=options, days=HELD):
            assert event is not None
    store.runs.finish(claim, now, DONE)
    store.close()


def jobs_of(stage: Stage, now: np.datetime64) -> list[str]:
    """What is due when a slot is over."""
    return ["step", *(["nightly"] if nightly_slot(stage.city, now) == now else [])]


def state(stage: Stage) -> dict[str, object]:
    """All that must be the same however often it was interrupted."""
    store, city = Store(), stage.city
    first, last = stage.times[0] - 1, stage.times[-1]
    made = list(store.forecasts.between(city, first, last))
    scores = store.scores.table(city, first, last).sort_values(["init_time", "lead", "forecaster"])
    runs = store.runs.table(city.name, last=100_000)
    history = store.promotions.decisions(city)
    found = {
        "flow": store.flow.read(city).values.tobytes(),
        "forecasts": [(str(one["init_time"].values[0]), one.values.tobytes()) for one in made],
        "scores": scores[["init_time", "lead", "forecaster", "squared", "count"]]
        .to_numpy()
        .tolist(),
        "runs": sorted(
            zip(runs["job"], runs["scheduled_for"].astype(str), runs["outcome"], strict=True)
        ),
        "verdicts": [*history["verdict"]],
        "figures": [
            {name: gate["value"] for name, gate in gates.items()} for gates in history["gates"]
        ],
        "done": sorted(path.name for path in _folder(stage, "done").iterdir()),
        "waiting": sorted(path.name for path in _folder(stage, "").iterdir() if path.is_file()),
    }
    store.close()
    return found


def _folder(stage: Stage, name: str) -> Path:
    from pipelines.ingest.inbox import open_inbox

    return open_inbox(stage.city) / name


def played(stage: Stage) -> Iterator[np.datetime64]:
    store = Store()
    yield from play(stage.flow, stage.city)
    store.close()


def test_days_of_operation_miss_nothing_and_do_nothing_twice(stage: Stage) -> None:
    nights = 0
    for now in played(stage):
        for job in jobs_of(stage, now):
            work(job, stage.city.name, now)
            nights += job == "nightly"
    store, city, count = Store(), stage.city, len(stage.times)
    made = list(store.forecasts.between(city, stage.times[0] - 1, stage.times[-1]))
    assert [one["init_time"].values[0] for one in made] == [*stage.times]
    scores = store.scores.table(city, stage.times[0] - 1, stage.times[-1])
    matured = sum(min(HORIZON, count - 1 - n) for n in range(count))
    assert Counter(scores["forecaster"]) == dict.fromkeys([SERVED, *BASELINES], matured)
    runs = store.runs.table(city.name, last=100_000)
    assert Counter(runs["job"]) == {"step": count, "nightly": nights}
    assert nights == DAYS
    assert {*runs["outcome"]} == {DONE}
    verdicts = Counter(store.promotions.decisions(city)["verdict"])
    assert sum(verdicts.values()) == nights
    logging.info("%d slots, %d scores, %d nights: %s", count, len(scores), nights, dict(verdicts))
    store.close()


@pytest.mark.slow
def test_killed_at_any_moment_it_comes_to_the_same(
    stage: Stage, small_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    stage = stage._replace(flow=stage.flow[: max(6, min(len(stage.times), KILLS))])
    calm = tmp_path / "calm"
    shutil.copytree(small_home, calm)
    rng = random.Random(0)
    kills = 0
    context = get_context("forkserver")
    context.set_forkserver_preload(["pipelines.operate.update", "pipelines.operate.nightly"])
    for now in played(stage):
        jobs = jobs_of(stage, now)
        for job in ["nightly", *jobs] if now == stage.times[0] + 3600 else jobs:
            longest = 0.6 if job == "step" else 3.0
            while True:
                process = context.Process(target=work, args=(job, stage.city.name, now))
                process.start()
                if kills < KILLS:
                    process.join(rng.uniform(0, longest))
                    if process.exitcode is None:
                        process.kill()
                        kills += 1
                process.join(600)
                _champion_serves(stage)
                if process.exitcode == 0:
                    break
                assert process.exitcode == -9
    killed = state(stage)
    monkeypatch.setenv("FLOWCAST_HOME", str(calm))
    for now in played(stage):
        jobs = jobs_of(stage, now)
        for job in ["nightly", *jobs] if now == stage.times[0] + 3600 else jobs:
            work(job, stage.city.name, now)
    whole = state(stage)
    assert kills == KILLS
    for name, value in whole.items():
        assert killed[name] == value, name


def _champion_serves(stage: Stage) -> None:
    """The champion, where there is one, can be loaded, and no version is there in part."""
    store = Store()
    champion = store.promotions.champion(stage.city)
    if champion is not None:
        load_version(models_root(), stage.city, champion)
    for version in versions(models_root(), stage.city.name):
        assert verify(models_root(), stage.city.name, version) == []
    store.close()
