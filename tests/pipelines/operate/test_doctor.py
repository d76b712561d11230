import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from app.cli.main import app
from data.city import City, load_city
from data.store.drift import Drift
from data.store.scores import SERVED
from data.store.store import Store
from pipelines.forecast.live import forecast
from pipelines.ingest.inbox import open_inbox
from pipelines.operate.doctor import HealthCheck, check_health, exit_code
from pipelines.operate.prometheus import write_metrics

HOUR = np.timedelta64(3600, "s")
RUN = CliRunner()


@pytest.fixture
def store(small_home: Path) -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


@pytest.fixture
def city(store: Store) -> City:
    return load_city("small")


@pytest.fixture
def fresh(store: Store, city: City) -> np.datetime64:
    """The moment at which the newest slot is over."""
    span = store.flow.span(city)
    assert span is not None
    return span[1] + HOUR


def of(found: list[HealthCheck], name: str) -> HealthCheck:
    return next(one for one in found if one.name == name)


def test_a_city_in_order_is_well(store: Store, city: City, fresh: np.datetime64) -> None:
    store.heartbeats.beat("scheduler", fresh + HOUR / 2)
    found = check_health(store, [city], fresh + HOUR / 2)
    assert {one.name: one.status for one in found if one.status != "ok"} == {}
    assert exit_code(found) == 0
    assert of(found, "data").value == 1800


def test_a_city_whose_toml_is_wrong_is_a_failure(
    store: Store, city: City, fresh: np.datetime64, flowcast_home: Path
) -> None:
    (flowcast_home / "cities" / "torn.toml").write_text("title = ")
    found = check_health(store, [city], fresh)
    assert of(found, "city").status == "failure" and of(found, "city").city == "torn"
    told = RUN.invoke(app, ["doctor", "--json"])
    assert told.exit_code == 2
    assert "torn" in {one["city"] for one in json.loads(told.stdout)["findings"]}


def test_an_arrival_that_failed_is_one_until_a_step_has_made_it_good(
    store: Store, city: City, fresh: np.datetime64
) -> None:
    claim = store.runs.claim("arrival", "small", fresh, fresh, 600)
    assert claim is not None
    store.runs.finish(claim, fresh, "failed", "no space is left")
    assert of(check_health(store, [city], fresh), "arrival").status == "failure"
    step = store.runs.claim("step", "small", fresh, fresh + HOUR, 600)
    assert step is not None
    store.runs.finish(step, fresh + HOUR, "done")
    assert of(check_health(store, [city], fresh + HOUR), "arrival").status == "ok"


def test_files_that_nobody_takes_in_are_told(store: Store, city: City, flowcast_home: Path) -> None:
    now = np.datetime64(int(time.time()), "s")
    folder = open_inbox(city)
    assert of(check_health(store, [city], now), "inbox").status == "ok"
    (folder / "flow.csv.gz").touch()
    (folder / "linked.csv").symlink_to(folder / "flow.csv.gz")
    (folder / ".being-written.csv").touch()
    found = of(check_health(store, [city], now), "inbox")
    assert (found.status, found.value) == ("warning", 2)
    assert "flow.csv.gz" in found.message
    (folder / "flow.csv").touch()
    assert of(check_health(store, [city], now), "inbox").value == 2  # it has just come
    found = of(check_health(store, [city], now + 2 * HOUR), "inbox")
    assert (found.status, found.value, "flow.csv" in found.message) == ("warning", 1, True)


@pytest.mark.parametrize(("steps", "status"), [(3, "ok"), (4, "warning"), (7, "failure")])
def test_data_that_are_late_are_told(
    store: Store, city: City, fresh: np.datetime64, steps: int, status: str
) -> None:
    found = check_health(store, [city], fresh + steps * HOUR)
    assert of(found, "data").status == status


def test_each_fault_is_found(store: Store, city: City, fresh: np.datetime64) -> None:
    store.heartbeats.beat("scheduler", fresh - HOUR)
    claim = store.runs.claim("step", "small", fresh, fresh, 600)
    assert claim is not None
    store.runs.finish(claim, fresh, "failed", "no space is left")
    store.drifts.add(city, Drift(fresh, 1.0, 2.0, None, None, True, "half as many vehicles"))
    version = str(store.promotions.champion(city))
    folder = Path(check_health.__globals__["models_root"]()) / "small" / version
    (folder / "network-0.onnx").write_bytes(b"")
    found = check_health(store, [city], fresh)
    assert of(found, "scheduler").status == "failure"
    assert (of(found, "step").status, "no space" in of(found, "step").message) == ("failure", True)
    assert (of(found, "drift").status, of(found, "drift").message) == (
        "warning",
        "half as many vehicles",
    )
    assert of(found, "champion").status == "failure"
    assert exit_code(found) == 2


def test_a_run_that_never_ends_and_a_clock_that_is_ahead_are_found(
    store: Store, city: City, fresh: np.datetime64
) -> None:
    store.heartbeats.beat("scheduler", fresh + 24 * HOUR)
    assert store.runs.claim("nightly", "small", fresh - 480 * HOUR, fresh - 480 * HOUR, 600)
    claim = store.runs.claim("arrival", "small", fresh, fresh, 600)
    assert claim is not None
    store.runs.finish(claim, fresh, "failed", "the disk is full")
    found = check_health(store, [city], fresh)
    assert of(found, "scheduler").status == "warning"
    assert "set the clocks of the hosts right" in of(found, "scheduler").message
    assert (of(found, "nightly").status, of(found, "arrival").status) == ("failure", "failure")
    assert "20 days, longer than it may" in of(found, "nightly").message


def test_steps_that_cron_starts_need_no_scheduler(
    store: Store, city: City, fresh: np.datetime64
) -> None:
    assert of(check_health(store, [city], fresh), "scheduler").status == "warning"
    claim = store.runs.claim("step", "small", fresh, fresh, 600)
    assert claim is not None
    store.runs.finish(claim, fresh, "done")
    assert of(check_health(store, [city], fresh), "scheduler").status == "ok"


def test_a_store_that_cannot_be_looked_at_is_a_failure(flowcast_home: Path) -> None:
    flowcast_home.mkdir(parents=True)
    (flowcast_home / "flowcast.db").write_bytes(b"no database at all" * 100)
    told = RUN.invoke(app, ["doctor", "--json"])
    assert told.exit_code == 2
    content = json.loads(told.stdout)
    assert content["status"] == 2
    assert "is not a flowcast database" in content["findings"][0]["message"]


def test_an_empty_city_is_a_failure_with_the_way_out(store: Store, fresh: np.datetime64) -> None:
    found = check_health(store, [load_city("demo")], fresh)
    assert of(found, "data").message == "no flow; run: forecast ingest --city demo PATH"
    assert of(found, "champion").status == "warning"


def test_metrics_are_those_of_the_health_checks_and_scores(
    store: Store, city: City, fresh: np.datetime64, tmp_path: Path
) -> None:
    made = store.forecasts.add(city, forecast(store, city, 2))
    scores = {"init_time": [fresh - HOUR] * 2, "lead": [1, 2], "squared": [8.0, 18.0]}
    more = {"forecaster": SERVED, "forecast": made, "ingest": 1, "count": 2}
    more |= {"absolute": 1.0, "difference": 0.0}
    store.scores.add(city, pd.DataFrame(scores | dict.fromkeys(more)).assign(**more))
    write_metrics(tmp_path / "x" / "flowcast.prom", store, [city], fresh)
    text = (tmp_path / "x" / "flowcast.prom").read_text()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert {family.type for family in found.values()} == {"gauge"}
    values = {
        tuple(sorted(one.labels.items())): one.value for one in found["flowcast_value"].samples
    }
    assert values[("city", "small"), ("name", "data"), ("unit", "seconds")] == 0
    status = {
        (one.labels["name"], one.labels["city"]): one.value
        for one in found["flowcast_status"].samples
    }
    checks = check_health(store, [city], fresh)
    numbers = {"ok": 0, "warning": 1, "failure": 2}
    assert status == {(one.name, one.city): numbers[one.status] for one in checks}
    errors = {one.labels["lead"]: one.value for one in found["flowcast_rmse_vehicles"].samples}
    assert errors == {"1": 2.0, "2": 3.0}
    (when,) = found["flowcast_time_seconds"].samples
    assert when.value == fresh.astype(int)
    assert [*(tmp_path / "x").iterdir()] == [tmp_path / "x" / "flowcast.prom"]


def test_the_verbs_tell_it(store: Store, city: City) -> None:
    told = RUN.invoke(app, ["doctor", "--city", "small"])
    assert told.exit_code == 2  # the archive ended in 2025
    assert "newest slot 2025-04-06 23:00" in told.stdout
    version = str(store.promotions.champion(city))
    for arguments, text in (
        (["list"], version),
        (["show", version], "weights"),
        (["verify"], f"{version}: ok"),
        (["promote", version], f"version {version} is the champion"),
        (["list", "--json"], '"history"'),
    ):
        done = RUN.invoke(app, ["models", arguments[0], "--city", "small", *arguments[1:]])
        assert done.exit_code == 0, done.output
        assert text in done.stdout
    refused = RUN.invoke(app, ["models", "rollback", "--city", "small"])
    assert refused.exit_code == 1
    assert "had no champion before" in str(refused.exception)
