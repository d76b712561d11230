"""A contest on a small simulated city: what is run, what is kept, and that its figures are right."""

import dataclasses
import json
from collections.abc import Iterator
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
from pipelines.compare import contestants
from pipelines.compare import run as contest_run
from pipelines.compare.comparison import Held, hold
from pipelines.compare.contest_makers import Baseline, Network
from pipelines.compare.contest_mixtures import mixtures
from pipelines.compare.contest_processes import Began, Ended
from pipelines.compare.contestants import (
    ABLATIONS,
    CONTESTANTS,
    FULL,
    OWN,
    Archive,
    Contestant,
    Plan,
    Run,
    chosen,
    judged,
)
from pipelines.compare.standings import FLOOR, daily, standings
from pipelines.compare.table import as_markdown, entry_of, facts
from pipelines.ingest.files import ingest

PLAN = Plan(horizon=3, minutes=0.01)
CHANCY = [
    Run(Contestant("chancy", "toy", "", Baseline("persistence", chance=True)), seed)
    for seed in (0, 1)
]
"""Made in processes of their own, though quickly."""
RUNS = [*chosen(["baselines"], seeds=1), CHANCY[0]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, City]]:
    """A home with five hourly weeks of a city of 6x5 cells, daylight saving in the first."""
    home = tmp_path_factory.mktemp("contest") / "home"
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
def at_home(place: tuple[Path, City], monkeypatch: pytest.MonkeyPatch) -> City:
    monkeypatch.setenv("FLOWCAST_HOME", str(place[0]))
    return place[1]


@pytest.fixture(scope="module")
def ended(place: tuple[Path, City]) -> list[Began | Ended | Held]:
    """The events of a contest that was ended in the middle of a training, then went on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWCAST_HOME", str(place[0]))
        first = hold(Store(), place[1], RUNS, PLAN, jobs=1)
        for event in first:
            if isinstance(event, Began) and event.label == CHANCY[0].label:
                break
        first.close()
        return list(hold(Store(), place[1], RUNS, PLAN, jobs=1))


@pytest.fixture(scope="module")
def held(ended: list[Began | Ended | Held]) -> Held:
    assert isinstance(ended[-1], Held)
    return ended[-1]


@pytest.fixture(scope="module")
def seeds(held: Held) -> Held:
    """The contest as if two of its baselines were two seeds of the city's own forecaster."""
    names = ("average-and-anomaly", "last-week")
    own = {Run(FULL, seed): held.runs[run_of(held, name)] for seed, name in enumerate(names)}
    return dataclasses.replace(held, runs={**held.runs, **own})


def result(store: Store, city: City, runs: list[Run], plan: Plan) -> Held:
    *_, last = hold(store, city, runs, plan)
    assert isinstance(last, Held)
    return last


def run_of(held: Held, name: str) -> Run:
    return next(run for run in held.runs if run.contestant.name == name)


# What is run


def test_a_contest_that_was_ended_makes_what_is_missing(
    ended: list[Began | Ended | Held], held: Held
) -> None:
    assert [event.label for event in ended if isinstance(event, Began)] == [CHANCY[0].label]
    assert list(held.runs) == RUNS
    assert held.failed == {}
    assert not list(held.folder.glob(".*.npz.*"))


def test_a_contest_takes_what_another_one_made(held: Held, at_home: City) -> None:
    again = list(hold(Store(), at_home, RUNS[::-1], PLAN))
    assert [type(event) for event in again] == [Held]


def test_another_budget_is_another_run_of_networks_alone(held: Held) -> None:
    longer = dataclasses.replace(PLAN, minutes=1)
    for run in chosen(["all"], seeds=2):
        network = isinstance(run.contestant.maker, Network)
        assert (run.file(longer) != run.file(PLAN)) == network
    files = [run.file(PLAN) for run in (*chosen(["all", "ablation"], seeds=2), *CHANCY)]
    assert len(set(files)) == len(files)


def test_a_network_is_trained_and_forecasts(at_home: City, tmp_path: Path) -> None:
    flow = Store().flow.read(at_home)
    trained = next(one for one in ABLATIONS if one.name == "without final fit")  # which saves time
    contest_run.make(Archive(at_home, flow), Run(trained, 0), PLAN, tmp_path / "one.npz")
    kept = contest_run.read(tmp_path / "one.npz", flow)
    assert kept is not None
    assert kept.facts["epochs"] >= 1
    forecast = kept.forecast(flow)
    assert np.isfinite(forecast.values).all()
    truth = split(flow, at_home).test.values[:-2].astype(np.float64)
    error = np.sqrt(((forecast.values[:, 0] - truth) ** 2).mean())
    kept_error = errors_of(kept.sums.sum("init_time"))["rmse"].sel(channel="both").values[0]
    assert kept_error == pytest.approx(error, rel=1e-3)


def test_a_run_that_fails_is_told_and_stops_no_other(at_home: City) -> None:
    broken = Contestant("broken", "baselines", "", Baseline("no such"))
    runs = [Run(broken, 0), *RUNS[:-1]]
    last = result(Store(), at_home, runs, Plan(3))
    assert list(last.failed) == ["broken"]
    assert "no such" in last.failed["broken"]
    assert list(last.runs) == runs[1:]


def test_a_file_that_cannot_be_read_is_made_again(at_home: City) -> None:
    runs, plan = RUNS[:-1], Plan(2)
    whole = result(Store(), at_home, runs, plan)
    path = whole.runs[runs[0]].path
    path.write_bytes(path.read_bytes()[:-100])
    events = list(hold(Store(), at_home, runs, plan))
    assert [event.label for event in events if isinstance(event, Began)] == [runs[0].label]


def test_too_short_a_test_span_is_a_sentence(at_home: City) -> None:
    with pytest.raises(FlowcastError, match="no 170 slots in a row of small"):
        list(hold(Store(), at_home, RUNS, Plan(169)))


# Who takes part


def test_all_names_the_families_of_the_table_once() -> None:
    runs = chosen(["all"], seeds=3)
    names = [run.contestant.name for run in runs if run.seed == 0]
    assert len(names) == len(set(names))
    for network in ("convlstm", "simvp", "predformer", "st-resnet", "trees", "swinlstm-b"):
        for context in ("plain", "context"):
            assert f"{network}, {context}" in names
            assert sum(run.contestant.name == f"{network}, {context}" for run in runs) == 3
    assert sum(run.contestant.name == "persistence" for run in runs) == 1
    assert sum(run.contestant == OWN for run in runs) == 3


def test_the_ablation_changes_one_thing_each() -> None:
    runs = chosen(["ablation"], seeds=1)
    assert {one.name for one in (FULL, *ABLATIONS)} <= {run.contestant.name for run in runs}
    known = [json.dumps(one.maker.facts(Plan()), sort_keys=True) for one in (FULL, *ABLATIONS)]
    assert len(set(known)) == len(known)


def test_contestants_have_names_of_their_own() -> None:
    names = [one.name for one in (*CONTESTANTS, *ABLATIONS)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("networks", "contexts"), [(["transformer"], ["plain"]), (["convlstm"], ["weather"])]
)
def test_what_does_not_exist_is_refused(networks: list[str], contexts: list[str]) -> None:
    with pytest.raises(FlowcastError, match="there is no"):
        chosen(networks, 1, contexts)


# On what they are judged


def test_windows_lie_in_the_test_span_alone(held: Held) -> None:
    test = split(held.flow, held.city).test
    init_times = next(iter(held.runs.values())).sums["init_time"].values
    # 7 days of 24 hours; the first forecast begins with them, the last of 3 steps ends with them.
    assert len(init_times) == 7 * 24 - 2
    assert init_times[0] + np.timedelta64(1, "h") == test["time"].values[0]
    assert init_times[-1] + np.timedelta64(3, "h") == test["time"].values[-1]


def test_of_a_long_span_every_nth_window_is_judged_at_all_times_of_day(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = held.flow["time"].values
    every = judged(held.flow, time[1], time[-1], Plan(3))
    monkeypatch.setattr(contestants, "KEPT", len(every) * 3 * 60 * 2 // 6)
    some = judged(held.flow, time[1], time[-1], Plan(3))
    assert len(some) * 3 * 60 * 2 <= contestants.KEPT
    hours = (some - some.astype("datetime64[D]")) / np.timedelta64(1, "h")
    assert len(np.unique(hours)) == 24


def test_a_fit_is_not_shown_the_test_span(at_home: City, tmp_path: Path) -> None:
    flow = Store().flow.read(at_home)
    known = split(flow, at_home)
    other = flow.copy(deep=True)
    other[-known.test.sizes["time"] :] *= 2
    run = next(one for one in RUNS if one.contestant.name == "recent-and-anomaly")
    kept = []
    for number, truth in enumerate((flow, other)):
        contest_run.make(Archive(at_home, truth), run, PLAN, tmp_path / f"{number}.npz")
        kept.append(contest_run.read(tmp_path / f"{number}.npz", truth))
    one, two = kept
    assert one is not None
    assert two is not None
    assert one.facts["validation"] == two.facts["validation"]
    # The first window of the test span sees nothing of it.
    np.testing.assert_array_equal(one.forecast(flow)[0], two.forecast(other)[0])


# What is told


def test_the_errors_are_those_of_the_definition(held: Held) -> None:
    found = standings(held)
    values = held.flow.values.astype(np.float64)
    first = len(values) - 7 * 24
    content = facts(found, "forecast evaluate")
    shown = entry_of(content, "persistence")["errors"]
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


def test_the_mean_of_seeds_is_that_of_their_forecasts(seeds: Held) -> None:
    found = standings(seeds)
    one, two = (entry for entry in found.entries if entry.contestant == FULL)
    both, each = (one, two) if one.together else (two, one)
    made = [kept.forecast(seeds.flow).values.astype(np.float64) for kept in each.runs.values()]
    values, first = seeds.flow.values, seeds.flow.sizes["time"] - 7 * 24
    came = np.stack([values[first + n : len(values) - 2 + n] for n in range(3)], axis=1)
    alone = [np.sqrt(((forecast - came) ** 2).mean()) for forecast in made]
    together = np.sqrt((((made[0] + made[1]) / 2 - came) ** 2).mean())
    assert both.rmse == pytest.approx(together, rel=1e-4)
    assert each.rmse == pytest.approx(np.mean(alone), rel=1e-4)
    figure = entry_of(facts(found, ""), each.name)["errors"][-1]["rmse"]
    assert figure["spread"] == pytest.approx(np.std(alone, ddof=1), rel=1e-3)
    assert found.main is both


def test_what_training_makes_of_a_city_is_compared_with_all_others(seeds: Held) -> None:
    own = {Run(OWN, 0): seeds.runs[run_of(seeds, "persistence")]}
    found = standings(dataclasses.replace(seeds, runs={**seeds.runs, **own}))
    assert found.main.contestant == OWN
    assert found.rival is not None
    assert found.rival.contestant != OWN


def test_the_rival_is_the_best_of_the_others_and_tested_by_day(seeds: Held) -> None:
    found = standings(seeds)
    assert found.rival is not None
    others = [one for one in found.entries if one.contestant not in (FULL, None)]
    assert found.rival.rmse == min(one.rmse for one in others)
    losses = []
    for entry in (found.main, found.rival):
        total = daily(entry, seeds).sum("lead_time")
        losses.append((total["absolute"] / total["count"]).values)
    test = found.comparisons[found.rival.name]["absolute"]
    assert test.difference == pytest.approx((losses[0] - losses[1]).mean())
    assert FLOOR not in found.comparisons


def test_days_are_those_of_the_city(held: Held) -> None:
    entry = next(one for one in standings(held).entries if one.name == "persistence")
    total = daily(entry, held)
    assert len(total["group"]) == 7
    valid = held.runs[run_of(held, "persistence")].forecast(held.flow)["valid_time"]
    hours = (valid - np.timedelta64(4, "h")).values.astype("datetime64[D]")  # of April
    day = total["group"].values[3]
    squared = entry.sums[0]["squared"].sum("channel").values
    np.testing.assert_allclose(
        total["squared"].sel(group=day),
        [squared[hours[:, lead] == day, lead].sum() for lead in range(3)],
    )


def test_the_floor_of_a_simulated_city_is_the_best(held: Held) -> None:
    found = standings(held)
    assert found.entries[0].name == FLOOR
    expected = (
        Store.flow
    )  # the floor's errors are the counting noise: Poisson's variance is the mean
    assert expected is not None
    noise = np.sqrt(split(held.flow, held.city).test.values.mean(dtype=np.float64))
    assert found.entries[0].rmse == pytest.approx(noise, rel=0.05)


def test_windows_that_one_cannot_forecast_are_left_out_for_all(at_home: City) -> None:
    flow = Store().flow.read(at_home)
    hole = flow.sizes["time"] - 7 * 24 - 24  # a day before the test span
    other = Store("sqlite:///:memory:")
    other.flow.add(
        at_home,
        flow.isel(time=np.delete(np.arange(flow.sizes["time"]), hole)),
        source=Source("", ""),
    )
    found = standings(result(other, at_home, RUNS[:-1], PLAN))
    # Last week's slot lacks for 3 leads, and an hour more to both sides, for clocks may be moved.
    assert len(found.init_times) == 7 * 24 - 2 - 5
    for entry in found.entries:
        assert (entry.sums[0]["init_time"].values == found.init_times).all()


def test_the_table_tells_what_it_was_made_of(seeds: Held) -> None:
    content = facts(standings(seeds), "forecast compare --city small --networks swinlstm-b")
    json.dumps(content, allow_nan=False)
    text = as_markdown(content)
    assert "`forecast compare --city small --networks swinlstm-b`" in text
    assert "| swinlstm-b, context, mean of 2 |" in text
    assert "Paired test of the squared errors of 7 days" in text
    assert content["spans"]["test"] == ["2025-03-31 00:00", "2025-04-06 23:00"]
    assert entry_of(content, "swinlstm-b, context")["seeds"] == [0, 1]
    assert entry_of(content, "persistence")["against_main"]["squared"]["days"] == 7


def test_a_peer_has_trees_beside_it_with_the_share_of_least_squares(held: Held) -> None:
    def named(name: str) -> Contestant:
        return next(one for one in CONTESTANTS if one.name == name)

    # Two baselines stand for what a peer and trees left.
    peer, trees = (held.runs[run_of(held, name)] for name in ("average-and-anomaly", "last-week"))
    runs = {
        Run(named("convlstm, context"), 0): peer,
        Run(named("convlstm, plain"), 0): peer,
        Run(named("swinlstm-b, context"), 0): peer,
        Run(named("trees, context"), 0): trees,
        Run(named("trees, context"), 1): trees,
    }
    ((contestant, made),) = mixtures(runs, held.flow)
    assert (contestant.name, [run.seed for run in made]) == ("convlstm and trees, context", [0])
    (mixed,) = made.values()
    ours, theirs = peer.selected(held.flow), trees.selected(held.flow)
    observed = windows.future(held.flow, ours["init_time"].values, PLAN.horizon).values
    there = np.isfinite(ours.values) & np.isfinite(theirs.values)
    columns = (theirs.values - ours.values)[there].astype(np.float64)
    wanted = (observed - ours.values)[there].astype(np.float64)
    (share,), *_ = np.linalg.lstsq(columns[:, None], wanted, rcond=None)
    assert 0 < share < 1
    ((other, found),) = mixed.others
    assert (other, found) == (trees, pytest.approx(share, rel=1e-6))
    forecast = mixed.forecast(held.flow)
    expected = (1 - share) * peer.forecast(held.flow) + share * trees.forecast(held.flow)
    np.testing.assert_allclose(forecast, expected, rtol=1e-4, atol=1e-3)
    best = min(kept.facts["validation"]["all"] for kept in (peer, trees))
    assert mixed.facts["validation"]["all"] < best
    # Where the city's own forecaster has networks on frames alone, so have its peers.
    own = dataclasses.replace(peer, facts={**peer.facts, "plain": 0.4})
    ((contestant, made),) = mixtures({Run(OWN, 0): own, **runs}, held.flow)
    assert contestant.name == "convlstm and trees, both kinds, context"
    (both,) = made.values()
    assert both.others == (*mixed.others, (peer, pytest.approx(both.others[1][1])))
    frames = peer.forecast(held.flow)
    expected = forecast + both.others[1][1] * (frames - forecast)
    np.testing.assert_allclose(both.forecast(held.flow), expected, rtol=1e-4, atol=1e-3)


def test_the_table_tells_what_bands_held_over_all_by_lead_and_by_level(seeds: Held) -> None:
    content = facts(standings(seeds), "the command")
    every, *rest = content["bands"]
    by_lead = [one for one in rest if one["lead_minutes"] is not None]
    by_flow = [one for one in rest if one["flow_from"] is not None]
    assert len(by_lead) == PLAN.horizon
    for part in (by_lead, by_flow):
        assert sum(one["share"] for one in part) == pytest.approx(1, abs=1e-3)
        held = sum(one["share"] * one["held"]["80"] for one in part)
        assert held == pytest.approx(every["held"]["80"], abs=2e-3)
    assert every["held"]["50"] < every["held"]["80"] < every["held"]["95"]
    assert "## What the bands of" in as_markdown(content)
