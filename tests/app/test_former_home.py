"""A home that flowcast 0.1.0 made opens and serves: see `tests/fixtures/former_home/README.md`."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.city import load_city
from data.formats.taxibj import write_taxibj
from data.paths import inbox_folder
from data.store.store import Store

Run = Callable[..., tuple[int, str, str]]
CITY = "old"
ALL = (np.datetime64("2025-01-01", "s"), np.datetime64("2026-01-01", "s"))
MEASURED = {"seconds", "windows_per_second", "forecasting_seconds"}


@pytest.fixture
def former(on_sqlite: None, tmp_path: Path, flowcast_home: Path) -> Callable[[str], dict[str, Any]]:
    """Unpacks the home; returns the outputs of the verbs of then, by name."""
    archive = Path(__file__).parents[1] / "fixtures" / "former_home" / "home.zip"
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    return lambda name: json.loads((tmp_path / "outputs" / f"{name}.json").read_text())


def assert_same(now: Any, then: Any, path: str = "") -> None:
    """Compares what JSON holds; numbers to 1e-6."""
    if isinstance(then, dict):
        assert now.keys() >= then.keys(), path
        for key in then.keys() - MEASURED:
            assert_same(now[key], then[key], f"{path}/{key}")
    elif isinstance(then, list):
        assert len(now) == len(then), path
        for at, (one, other) in enumerate(zip(now, then, strict=True)):
            assert_same(one, other, f"{path}/{at}")
    elif isinstance(then, float):
        assert now == pytest.approx(then, rel=1e-6, abs=1e-6), path
    else:
        assert now == then, path


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("forecast", ("--city", CITY, "--horizon", 3)),
        ("evaluate", ("evaluate", "--city", CITY)),
        ("check", ("check", "--city", CITY)),
        ("models_list", ("models", "list", "--city", CITY)),
    ],
)
def test_a_verb_returns_what_it_returned(
    run: Run, former: Callable[[str], dict[str, Any]], name: str, arguments: tuple[object, ...]
) -> None:
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    assert_same(json.loads(out), former(name))


def test_its_version_is_the_one_that_was_promoted(
    run: Run, former: Callable[[str], dict[str, Any]]
) -> None:
    code, out, err = run("models", "verify", "--city", CITY)
    assert code == 0, err
    manifest = former("models_show")["manifest"]
    assert manifest["version"] in out
    shown = json.loads(run("models", "show", "--city", CITY, manifest["version"], "--json")[1])
    assert_same(shown["manifest"], manifest)


def test_a_new_slot_is_ingested_forecast_and_scored(
    run: Run, former: Callable[[str], dict[str, Any]]
) -> None:
    city, store = load_city(CITY), Store()
    newest = store.flow.read(city)[-1:]
    made, scored = store.forecasts.table(city), store.scores.sums(city, *ALL)
    time = newest["time"].values + city.step
    path = inbox_folder(CITY) / "next.h5"
    write_taxibj(path, newest.values, time, city)
    code, _, err = run("ingest", "--city", CITY, path)
    assert code == 0, err
    code, _, err = run("step", "--city", CITY, "--horizon", 3)
    assert code == 0, err
    assert store.flow.span(city) == (newest["time"].values[0] - 671 * city.step, time[0])
    assert len(store.forecasts.table(city)) == len(made) + 1
    assert len(store.scores.sums(city, *ALL)) > len(scored)
