"""A comparison on a small simulated city: what is run, what is kept, and that its figures are right."""

import dataclasses
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from data import windows
from data.city import City, load_city
from data.errors import FlowcastError
from data.flow import split
from data.simulation.files import write_simulation
from data.store.ingests import Source
from data.store.store import Store
from forecasting.metrics import errors_of
from forecasting.trees.features import TreesConfig
from pipelines.compare import comparison as comparisons
from pipelines.compare.comparison import Comparison
from pipelines.compare.contestants import (
    ABLATIONS,
    CONTESTANTS,
    FULL,
    OWN,
    Contestant,
    Run,
    chosen,
)
from pipelines.compare.run import Progress, RunResult, fit_run, path_of, read
from pipelines.compare.standings import (
    FLOOR,
    ComparisonResult,
    compare_runs,
    stacked,
    standings,
)
from pipelines.compare.table import as_markdown, entry_of, facts
from pipelines.ingest.files import ingest

Runs = Mapping[Run, RunResult]
SMALL_TREES = TreesConfig(context=False, rows=500, rounds=2)
RANDOM = Run(Contestant("few trees", "toy", "", SMALL_TREES), 0)
"""Made in a process of its own, though quickly."""
RUNS = [*chosen(["baselines"], seeds=1), RANDOM]
BASELINES = RUNS[:-1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, City]]:
    """A home with five hourly weeks of a city of 6x5 cells, daylight saving in the first."""
    home = tmp_path_factory.mktemp("comparison") / "home"
    small = dataclasses.replace(
        load_city("demo"),
        **{"name": "small", "timezone": "America/New_York", "step": np.timedelta64(3600, "s")},
        **{"grid": (6, 5), "test_days": 7, "validation_days": 4},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWCAST_HOME", str(home))
        write_simulation(home / "files", small, weeks=5, seed=1)
        store = Store()
        list(ingest(store, small, [home / "files"]))
        store.close()
    yield home, small


@pytest.fixture
def at_home(place: tuple[Path, City], monkeypatch: pytest.MonkeyPatch) -> Comparison:
    monkeypatch.setenv("FLOWCAST_HOME", str(place[0]))
    return compared(place[1])


@pytest.fixture(scope="module")
def found(place: tuple[Path, City]) -> ComparisonResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWCAST_HOME", str(place[0]))
        return result(compared(place[1]), BASELINES)


@pytest.fixture
def runs(found: ComparisonResult, at_home: Comparison) -> Runs:
    """What each run left."""
    return left(at_home, BASELINES)


@pytest.fixture
def seeds(runs: Runs, at_home: Comparison) -> ComparisonResult:
    """The comparison as if two of its baselines were two seeds of the city's own forecaster."""
    names = ("average-and-anomaly", "last-week")
    own = {Run(FULL, seed): of(runs, name) for seed, name in enumerate(names)}
    return standings(at_home, {**runs, **own}, {})


def compared(city: City, horizon: int = 3, store: Store | None = None) -> Comparison:
    return Comparison.of(store or Store(), city, horizon, minutes=0.01)


def result(comparison: Comparison, runs: list[Run]) -> ComparisonResult:
    *_, last = compare_runs(comparison, runs)
    assert isinstance(last, ComparisonResult)
    return last


def left(comparison: Comparison, runs: list[Run]) -> dict[Run, RunResult]:
    found = {run: read(path_of(run, comparison), comparison.flow) for run in runs}
    return {run: one for run, one in found.items() if one is not None}


def of(runs: Runs, name: str) -> RunResult:
    return next(one for run, one in runs.items() if run.contestant.name == name)


def started(events: list[Progress | ComparisonResult]) -> list[Run]:
    return [one.run for one in events if isinstance(one, Progress) and one.outcome is None]


# What is run


@pytest.mark.slow
def test_a_comparison_that_was_ended_makes_what_is_missing(
    found: ComparisonResult, at_home: Comparison
) -> None:
    first = compare_runs(at_home, RUNS, jobs=1)
    for event in first:
        if isinstance(event, Progress) and event.run == RANDOM:
            break
    first.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
    events = list(compare_runs(at_home, RUNS, jobs=1))
    assert started(events) == [RANDOM]
    again = events[-1]
    assert isinstance(again, ComparisonResult)
    assert list(left(at_home, RUNS)) == RUNS
    assert again.failed == {}
    assert {one.name for one in again.entries} == {one.name for one in found.entries} | {
        RANDOM.contestant.name
    }
    assert not list(at_home.folder.glob(".*.npz.*"))


@pytest.mark.slow
def test_a_process_that_is_ended_stops_no_other(at_home: Comparison) -> None:
    other = Run(dataclasses.replace(RANDOM.contestant, name="other trees"), seed=2)
    events = compare_runs(at_home, [RANDOM, other], jobs=1)
    path_of(RANDOM, at_home).unlink(missing_ok=True)
    ended = {}
    for event in events:
        if isinstance(event, Progress) and event.outcome is not None:
            ended[event.run] = event.outcome
        elif isinstance(event, Progress) and event.run == RANDOM:
            while not (children := multiprocessing.active_children()):
                time.sleep(0.01)
            os.kill(children[0].pid or 0, signal.SIGKILL)
    assert "out of memory perhaps" in str(ended[RANDOM])
    assert isinstance(ended[other], RunResult)


def test_a_comparison_takes_what_another_one_made(
    found: ComparisonResult, at_home: Comparison
) -> None:
    again = list(compare_runs(at_home, BASELINES[::-1]))
    assert [type(event) for event in again] == [ComparisonResult]


def test_a_run_is_found_by_its_settings_whatever_it_was_called(
    runs: Runs, at_home: Comparison
) -> None:
    assert runs
    one = BASELINES[0]
    renamed = Run(dataclasses.replace(one.contestant, name="as it was called"), one.seed)
    assert path_of(renamed, at_home) == path_of(one, at_home)


def test_another_budget_is_another_run_of_networks_alone(at_home: Comparison) -> None:
    longer = dataclasses.replace(at_home, minutes=1)
    for run in chosen(["all"], seeds=2):
        network = run.contestant.family not in ("baselines", "trees")
        assert (path_of(run, longer) != path_of(run, at_home)) == network
    runs = [*chosen(["all", "ablation"], seeds=2), RANDOM]
    assert len({path_of(run, at_home) for run in runs}) == len(runs)


@pytest.mark.slow
def test_a_network_is_trained_and_forecasts(at_home: Comparison, tmp_path: Path) -> None:
    trained = next(one for one in ABLATIONS if one.name == "without refit")  # which saves time
    fit_run(at_home, Run(trained, 0), tmp_path / "one.npz")
    kept = read(tmp_path / "one.npz", at_home.flow)
    assert kept is not None
    assert kept.facts["epochs"] >= 1
    forecast = kept.forecast(at_home.flow, "test")
    assert np.isfinite(forecast.values).all()
    truth = split(at_home.flow, at_home.city).test.values[:-2].astype(np.float64)
    error = np.sqrt(((forecast.values[:, 0] - truth) ** 2).mean())
    kept_error = errors_of(kept.sums.sum("init_time"))["rmse"].sel(channel="both").values[0]
    assert kept_error == pytest.approx(error, rel=1e-3)


def test_a_run_that_fails_is_reported_and_stops_no_other(
    place: tuple[Path, City], at_home: Comparison
) -> None:
    broken = Run(Contestant("broken", "baselines", "", "no such"), 0)
    found = result(at_home, [broken, *BASELINES])
    assert list(found.failed) == ["broken"]
    assert "no such" in found.failed["broken"]
    names = [one.name for one in found.entries if one.contestant]
    assert sorted(names) == sorted(run.contestant.name for run in BASELINES)


def test_a_file_that_cannot_be_read_is_made_again(
    place: tuple[Path, City], at_home: Comparison
) -> None:
    comparison = dataclasses.replace(at_home, horizon=2)
    result(comparison, BASELINES)
    path = path_of(BASELINES[0], comparison)
    path.write_bytes(path.read_bytes()[:-100])
    assert started(list(compare_runs(comparison, BASELINES))) == BASELINES[:1]


def test_too_short_a_test_span_is_a_sentence(at_home: Comparison) -> None:
    with pytest.raises(FlowcastError, match="no 170 slots in a row of small"):
        dataclasses.replace(at_home, horizon=169)


# Who takes part


def test_all_names_the_families_of_the_table_once() -> None:
    runs = chosen(["all"], seeds=3)
    names = [run.contestant.name for run in runs if run.seed == 0]
    assert len(names) == len(set(names))
    for network in ("convlstm", "simvp", "predformer", "st-resnet", "trees", "swinlstm-b"):
        for inputs in ("raw flow", "covariates"):
            assert f"{network}, {inputs}" in names
            assert sum(run.contestant.name == f"{network}, {inputs}" for run in runs) == 3
    assert sum(run.contestant.name == "persistence" for run in runs) == 1
    assert sum(run.contestant == OWN for run in runs) == 3


def test_the_ablation_changes_one_thing_each(at_home: Comparison) -> None:
    runs = chosen(["ablation"], seeds=1)
    assert {one.name for one in (FULL, *ABLATIONS)} <= {run.contestant.name for run in runs}
    known = [json.dumps(one.settings(at_home), sort_keys=True) for one in (FULL, *ABLATIONS)]
    assert len(set(known)) == len(known)


def test_contestants_have_names_of_their_own() -> None:
    names = [one.name for one in (*CONTESTANTS, *ABLATIONS)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("networks", "inputs"),
    [
        (["transformer"], ["raw-flow"]),
        (["convlstm"], ["weather"]),
        ([], ["raw-flow"]),
        (["convlstm"], []),
    ],
)
def test_what_does_not_exist_is_refused(networks: list[str], inputs: list[str]) -> None:
    with pytest.raises(FlowcastError, match="there is no"):
        chosen(networks, 1, inputs)


# What they are tested on


def test_windows_lie_in_the_test_span_alone(found: ComparisonResult) -> None:
    comparison = found.comparison
    test = split(comparison.flow, comparison.city).test
    # 7 days of 24 hours; the first forecast begins with them, the last of 3 steps ends with them.
    assert len(found.init_times) == 7 * 24 - 2
    assert found.init_times[0] + np.timedelta64(1, "h") == test["time"].values[0]
    assert found.init_times[-1] + np.timedelta64(3, "h") == test["time"].values[-1]


def test_of_a_long_span_every_nth_window_is_tested_at_all_times_of_day(
    at_home: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = at_home.init_times(at_home.flow)
    monkeypatch.setattr(comparisons, "MAX_BYTES", len(every) * 3 * 60 * 2 // 6)
    some = at_home.init_times(at_home.flow)
    assert len(some) * 3 * 60 * 2 <= comparisons.MAX_BYTES
    hours = (some - some.astype("datetime64[D]")) / np.timedelta64(1, "h")
    assert len(np.unique(hours)) == 24


@pytest.mark.parametrize("name", ["recent-and-anomaly", "few trees"])
def test_a_fit_does_not_know_the_test_span(at_home: Comparison, tmp_path: Path, name: str) -> None:
    known = split(at_home.flow, at_home.city)
    other = at_home.flow.copy(deep=True)
    other[-known.test.sizes["time"] :] *= 2
    run = next(one for one in RUNS if one.contestant.name == name)
    kept = []
    for number, truth in enumerate((at_home.flow, other)):
        path = tmp_path / f"{number}.npz"
        fit_run(dataclasses.replace(at_home, flow=truth), run, path)
        kept.append(read(path, truth))
    one, two = kept
    assert one is not None
    assert two is not None
    assert one.facts["validation"] == two.facts["validation"]
    # The first window of the test span sees nothing of it.
    first, second = one.forecast(at_home.flow, "test"), two.forecast(other, "test")
    np.testing.assert_array_equal(first[0], second[0])


# What is found


def test_the_errors_are_those_of_the_definition(found: ComparisonResult) -> None:
    values = found.comparison.flow.values.astype(np.float64)
    first = len(values) - 7 * 24
    shown = entry_of(facts(found, "forecast compare"), "persistence")["errors"]
    for lead in (1, 2, 3):
        newest, came = values[first - 1 : -3], values[first - 1 + lead : len(values) - 3 + lead]
        off, busy = abs(newest - came), came > 10
        expected = {
            "rmse": np.sqrt((off**2).mean()),
            "mae": off.mean(),
            "rmse_busy": np.sqrt((off[busy] ** 2).mean()),
            "mae_busy": off[busy].mean(),
            "mape_busy": 100 * (off[busy] / came[busy]).mean(),
        }
        for name, value in expected.items():
            assert shown[lead - 1][name]["mean"] == pytest.approx(value, abs=1e-3)
    assert shown[0]["lead_minutes"] == 60
    assert shown[3]["lead_minutes"] is None


def test_the_mean_of_seeds_is_that_of_their_forecasts(seeds: ComparisonResult) -> None:
    flow = seeds.comparison.flow
    one, two = (entry for entry in seeds.entries if entry.contestant == FULL)
    both, each = (one, two) if len(one.scored) == 1 else (two, one)
    made = [run.forecast(flow, "test").values.astype(np.float64) for run in each.runs.values()]
    values, first = flow.values, flow.sizes["time"] - 7 * 24
    came = np.stack([values[first + n : len(values) - 2 + n] for n in range(3)], axis=1)
    alone = [np.sqrt(((forecast - came) ** 2).mean()) for forecast in made]
    together = np.sqrt((((made[0] + made[1]) / 2 - came) ** 2).mean())
    assert both.rmse == pytest.approx(together, rel=1e-4)
    assert each.rmse == pytest.approx(np.mean(alone), rel=1e-4)
    figure = entry_of(facts(seeds, ""), each.name)["errors"][-1]["rmse"]
    assert figure["spread"] == pytest.approx(np.std(alone, ddof=1), rel=1e-3)
    assert seeds.main is both


def test_the_city_s_own_forecaster_is_compared_with_all_others(
    runs: Runs, at_home: Comparison
) -> None:
    own = {
        Run(OWN, 0): of(runs, "persistence"),
        Run(FULL, 0): of(runs, "last-week"),
    }
    found = standings(at_home, {**runs, **own}, {})
    assert found.main.contestant == OWN
    assert found.rival is not None
    assert found.rival.contestant != OWN


def test_the_rival_is_the_best_of_the_others_and_tested_by_day(seeds: ComparisonResult) -> None:
    assert seeds.rival is not None
    others = [one for one in seeds.entries if one.contestant not in (FULL, None)]
    assert seeds.rival.rmse == min(one.rmse for one in others)
    losses = []
    for entry in (seeds.main, seeds.rival):
        total = entry.by_day(seeds.comparison)
        losses.append((total["absolute"] / total["count"]).values)
    test = seeds.test(seeds.rival, "absolute")
    assert test.difference == pytest.approx((losses[0] - losses[1]).mean())
    entries = facts(seeds, "")["entries"]
    untested = [one["name"] for one in entries if not one["against_main"]]
    assert sorted(untested) == sorted([FLOOR, seeds.main.name])


def test_days_are_those_of_the_city(found: ComparisonResult, runs: Runs) -> None:
    flow = found.comparison.flow
    entry = next(one for one in found.entries if one.name == "persistence")
    total = entry.by_day(found.comparison)
    assert len(total["group"]) == 7
    valid = of(runs, "persistence").forecast(flow, "test")["valid_time"]
    hours = (valid - np.timedelta64(4, "h")).values.astype("datetime64[D]")  # of April
    day = total["group"].values[3]
    squared = of(runs, "persistence").sums["squared"].sum("channel").values
    expected = sum(squared[hours[:, lead] == day, lead].sum() for lead in range(3))
    np.testing.assert_allclose(total["squared"].sel(group=day), expected)


def test_the_floor_of_a_simulated_city_is_the_best(found: ComparisonResult) -> None:
    assert found.entries[0].name == FLOOR
    # Its errors are the counting noise: the variance of a Poisson distribution is its mean.
    test = split(found.comparison.flow, found.comparison.city).test
    noise = np.sqrt(test.values.mean(dtype=np.float64))
    assert found.entries[0].rmse == pytest.approx(noise, rel=0.05)


def test_windows_that_one_cannot_forecast_are_left_out_for_all(at_home: Comparison) -> None:
    flow = at_home.flow
    hole = flow.sizes["time"] - 7 * 24 - 24  # a day before the test span
    other = Store("sqlite:///:memory:")
    other.flow.add(
        at_home.city,
        flow.isel(time=np.delete(np.arange(flow.sizes["time"]), hole)),
        source=Source("", ""),
    )
    found = result(compared(at_home.city, store=other), BASELINES)
    # Last week's slot lacks for 3 leads, and an hour more to both sides, for clocks may be moved.
    assert len(found.init_times) == 7 * 24 - 2 - 5
    for entry in found.entries:
        for scored in entry.scored:
            assert (scored.sums["init_time"].values == found.init_times).all()


def test_the_table_says_what_it_was_made_of(seeds: ComparisonResult) -> None:
    content = facts(seeds, "forecast compare --city small --networks swinlstm-b")
    json.dumps(content, allow_nan=False)
    text = as_markdown(content)
    assert "`forecast compare --city small --networks swinlstm-b`" in text
    assert "| swinlstm-b, covariates, mean of 2 |" in text
    assert "Paired test of the squared errors of 7 days" in text
    assert content["spans"]["test"] == ["2025-03-31 00:00", "2025-04-06 23:00"]
    entry = entry_of(content, "swinlstm-b, covariates")
    assert (entry["seeds"], entry["context"]) == ([0, 1], "context")
    assert entry_of(content, "persistence")["against_main"]["squared"]["days"] == 7


def test_a_network_has_trees_beside_it_with_the_weight_of_least_squares(
    runs: Runs, at_home: Comparison
) -> None:
    def named(name: str) -> Contestant:
        return next(one for one in CONTESTANTS if one.name == name)

    def weight(first: np.ndarray, second: np.ndarray) -> float:
        there = np.isfinite(first) & np.isfinite(second)
        columns = (second - first)[there].astype(np.float64)
        wanted = (observed - first)[there].astype(np.float64)
        (found,), *_ = np.linalg.lstsq(columns[:, None], wanted, rcond=None)
        return float(found)

    # Two baselines stand for what a network and trees left.
    flow = at_home.flow
    peer, trees = (of(runs, name) for name in ("average-and-anomaly", "last-week"))
    made = {
        Run(named("convlstm, covariates"), 0): peer,
        Run(named("convlstm, raw flow"), 0): of(runs, "recent-weeks"),
        Run(named("swinlstm-b, covariates"), 0): peer,
        Run(named("trees, covariates"), 0): trees,
        Run(named("trees, covariates"), 1): trees,
    }
    (((contestant, seed), both),) = stacked(made, flow).items()
    assert (contestant.name, seed) == ("convlstm and trees, covariates", 0)
    ours, theirs = (one.forecast(flow, "validation") for one in (peer, trees))
    observed = windows.future(flow, ours["init_time"].values, at_home.horizon).values
    share = weight(ours.values, theirs.values)
    assert 0 < share < 1
    for span in ("test", "validation"):
        expected = (1 - share) * peer.forecast(flow, span) + share * trees.forecast(flow, span)
        np.testing.assert_allclose(both.forecast(flow, span), expected, rtol=1e-4, atol=1e-3)
    best = min(one.facts["validation"]["all"] for one in (peer, trees))
    assert both.facts["validation"]["all"] < best
    # Where the city's own forecaster has networks on raw flow, so have the others.
    own = dataclasses.replace(peer, facts={**peer.facts, "plain": 0.4})
    (((contestant, _), three),) = stacked({Run(OWN, 0): own, **made}, flow).items()
    assert contestant.name == "convlstm and trees, raw flow and covariates"
    raw = of(runs, "recent-weeks")
    share = weight(
        both.forecast(flow, "validation").values, raw.forecast(flow, "validation").values
    )
    share = min(max(share, 0.0), 1.0)
    forecast = both.forecast(flow, "test")
    expected = forecast + share * (raw.forecast(flow, "test") - forecast)
    np.testing.assert_allclose(three.forecast(flow, "test"), expected, rtol=1e-4, atol=1e-3)


def test_the_table_has_the_coverage_over_all_by_lead_and_by_level(seeds: ComparisonResult) -> None:
    content = facts(seeds, "the command")
    every, *rest = content["bands"]
    by_lead = [one for one in rest if one["lead_minutes"] is not None]
    by_flow = [one for one in rest if one["flow_from"] is not None]
    assert len(by_lead) == 3
    for part in (by_lead, by_flow):
        assert sum(one["share"] for one in part) == pytest.approx(1, abs=1e-3)
        covered = sum(one["share"] * one["held"]["80"] for one in part)
        assert covered == pytest.approx(every["held"]["80"], abs=2e-3)
    assert every["held"]["50"] < every["held"]["80"] < every["held"]["95"]
    assert "## Coverage of the prediction intervals of" in as_markdown(content)
