"""What the simulated city is like, and that its files say so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.city import City, load_city, read_city
from data.clock import local
from data.errors import FlowcastError
from data.formats.taxibj import open_taxibj
from data.simulation.files import write_simulation
from data.simulation.simulate import Simulation, foreseen, simulate

SMALL = City("small", "Small", "Asia/Shanghai", np.timedelta64(1800, "s"), (8, 6))
HOUR = np.timedelta64(3600, "s")


@pytest.fixture(scope="module")
def default() -> Simulation:
    """Twelve weeks of the demo city."""
    return simulate(load_city("demo"))


def by_day(simulation: Simulation) -> np.ndarray:
    """The expected flow of whole days, dims `(day, slot, channel, y, x)`."""
    hours = (simulation.time[1] - simulation.time[0]) / HOUR
    return simulation.expected.reshape(-1, round(24 / hours), *simulation.expected.shape[1:])


def usual_workday(simulation: Simulation) -> np.ndarray:
    """The mean of Mondays to Thursdays, dims `(slot, channel, y, x)`."""
    days = by_day(simulation)
    return np.asarray(days[np.arange(len(days)) % 7 < 4].mean(axis=0))


def test_the_default_city_is_as_large_as_taxibj(default: Simulation) -> None:
    assert default.counts.shape == (12 * 7 * 48, 2, 32, 32)
    assert 1000 <= default.counts.max() <= 1600
    assert 60 <= default.counts.mean() <= 120


def test_most_cells_are_quiet_and_a_few_busy(default: Simulation) -> None:
    cells = default.expected.mean(axis=(0, 1))
    rim = np.concatenate([cells[0], cells[-1], cells[:, 0], cells[:, -1]])
    assert np.median(cells) < 0.8 * cells.mean() < 0.25 * cells.max()
    assert rim.mean() < 0.5 * cells[8:24, 8:24].mean()


def test_those_who_leave_arrive_the_same_day(default: Simulation) -> None:
    inflow, outflow = np.moveaxis(by_day(default).sum(axis=(1, 3, 4), dtype=float), 1, 0)
    np.testing.assert_allclose(inflow, outflow, rtol=0.01)


def test_a_cell_has_as_many_in_as_out_over_the_weeks(default: Simulation) -> None:
    inflow, outflow = default.expected.sum(axis=0, dtype=float)
    np.testing.assert_allclose(inflow, outflow, rtol=0.1)


def test_who_leaves_home_in_the_morning_comes_back_in_the_evening(default: Simulation) -> None:
    day = usual_workday(default)
    net = day[:, 0] - day[:, 1]
    morning, evening = net[16], net[37]
    homes, offices = morning < -20, morning > 20
    assert homes.sum() > 30
    assert offices.sum() > 30
    assert np.corrcoef(morning.ravel(), evening.ravel())[0, 1] < -0.6
    assert (evening[homes] > 0).mean() > 0.8
    assert evening[homes].sum() > 0
    assert evening[offices].sum() < 0


def test_trips_take_time(default: Simulation) -> None:
    day = usual_workday(default).sum(axis=(2, 3))
    slots = np.arange(14, 20)
    inflow, outflow = (np.average(slots, weights=np.diff(day[13:20, n])) for n in (0, 1))
    assert 0.1 < inflow - outflow < 2


def test_nights_are_longest_after_friday_and_saturday(default: Simulation) -> None:
    night = by_day(default)[:, 1:5].sum(axis=(1, 2, 3, 4)).reshape(-1, 7).mean(axis=0)
    assert set(np.argsort(night)[-2:]) == {5, 6}
    assert night[5:].min() > 1.3 * night[:5].max()


def test_the_weekend_has_no_morning_peak(default: Simulation) -> None:
    total = by_day(default).sum(axis=(2, 3, 4)).reshape(-1, 7, 48).mean(axis=0)
    share_at_eight = total[:, 16] / total.sum(axis=1)
    assert share_at_eight[5:].max() < 0.6 * share_at_eight[:5].min()


def test_three_workdays_in_twelve_weeks_are_holidays(default: Simulation) -> None:
    total = by_day(default).sum(axis=(2, 3, 4)).reshape(-1, 7, 48)
    share_at_eight = (total[..., 16] / total.sum(axis=-1))[:, :5]
    assert (share_at_eight < 0.6 * np.median(share_at_eight)).sum() == 3


def test_counts_scatter_around_the_expected_flow_as_poisson_does(default: Simulation) -> None:
    expected, counts = default.expected.astype(float), default.counts.astype(float)
    standard = (counts - expected) / np.sqrt(expected)
    assert (counts == counts.round()).all()
    assert standard.mean() == pytest.approx(0, abs=0.002)
    assert (standard**2).mean() == pytest.approx(1, abs=0.01)
    busy = standard[expected > 100]
    assert (np.abs(busy) < 1.96).mean() == pytest.approx(0.95, abs=0.005)


def test_the_last_deviation_forecasts_better_than_the_average_alone(default: Simulation) -> None:
    flow = default.counts.astype(float).reshape(12, 7 * 48, 2, 32, 32)
    average = flow[:10].mean(axis=0)
    off = (flow[10:] - average).reshape(-1, 2, 32, 32)
    noise = np.sqrt(default.expected.mean())
    corrected = np.sqrt(((off[1:] - 0.8 * off[:-1]) ** 2).mean())
    assert noise < corrected < 0.75 * np.sqrt((off[1:] ** 2).mean())


def test_the_first_slot_is_midnight_of_monday_3_march_2025() -> None:
    for timezone in ("Asia/Shanghai", "America/New_York", "Asia/Kathmandu"):
        first = local(simulate(replace(SMALL, timezone=timezone), 1).time[:1], timezone)[0]
        assert first == pd.Timestamp("2025-03-03", tz=timezone)


def test_a_seed_gives_the_same_city_and_another_seed_another() -> None:
    first, again, other = (simulate(SMALL, 1, seed) for seed in (5, 5, 6))
    assert np.array_equal(first.expected, again.expected)
    assert np.array_equal(first.counts, again.counts)
    places = [city.expected.mean(axis=(0, 1)).ravel() for city in (first, other)]
    assert np.corrcoef(*places)[0, 1] < 0.9


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32), weeks=st.integers(1, 5))
def test_a_longer_simulation_begins_with_the_shorter(seed: int, weeks: int) -> None:
    city = replace(SMALL, step=2 * HOUR, grid=(3, 4))
    short, long = simulate(city, weeks, seed), simulate(city, weeks + 1, seed)
    assert np.array_equal(short.counts, long.counts[: len(short.time)])
    assert np.array_equal(short.expected, long.expected[: len(short.time)])


@pytest.mark.parametrize("seconds", [300, 450, 3600, 10_800, 86_400])
@pytest.mark.parametrize("grid", [(1, 1), (4, 3), (1, 9)])
def test_every_step_and_grid_has_a_city(seconds: int, grid: tuple[int, int]) -> None:
    city = replace(SMALL, step=np.timedelta64(seconds, "s"), grid=grid)
    simulation = simulate(city, 1)
    assert simulation.counts.shape == (7 * 86_400 // seconds, 2, *grid)
    assert (np.diff(simulation.time) == city.step).all()
    assert np.isfinite(simulation.expected).all()
    assert simulation.expected.min() >= 0
    assert simulation.expected.sum(axis=(1, 2, 3)).min() > 0


def test_vehicles_per_step_grow_with_the_step() -> None:
    week = [
        simulate(replace(SMALL, step=np.timedelta64(minutes, "m")), 1).expected.sum(dtype=float)
        for minutes in (15, 30, 60)
    ]
    np.testing.assert_allclose(week, week[0], rtol=0.1)


def test_hours_that_clocks_skip_are_left_out() -> None:
    city = replace(SMALL, timezone="America/New_York")
    simulation = simulate(city, 1)
    assert len(simulation.time) == 7 * 48 - 2  # 9 March 2025, 2:00 to 3:00
    assert (np.diff(simulation.time) == city.step).all()


@pytest.mark.parametrize(
    ("timezone", "seconds", "weeks"),
    [
        ("Asia/Shanghai", 1800, 1),
        ("America/New_York", 1800, 36),  # 2 November: clocks are set back
        ("Australia/Lord_Howe", 3600, 6),  # 6 April: by half an hour
        ("Europe/London", 86_400, 45),  # into 2026
        ("Asia/Tokyo", 450, 1),
    ],
)
def test_files_say_what_was_simulated(
    tmp_path: Path, timezone: str, seconds: int, weeks: int
) -> None:
    step = np.timedelta64(seconds, "s")
    city = replace(SMALL, timezone=timezone, step=step, grid=(3, 2), bbox=(1.0, 2.0, 3.0, 4.0))
    *counts, expected, _ = write_simulation(tmp_path / "new", city, weeks, seed=3)
    simulation = simulate(city, weeks, seed=3)
    readings = [open_taxibj(path, city) for path in counts]
    assert {reading.series for reading in readings} == {"observed"}
    values = np.concatenate([reading.flow.values for reading in readings])
    time = np.concatenate([reading.flow["time"].values for reading in readings])
    assert np.array_equal(values, simulation.counts)
    assert np.array_equal(time, simulation.time)
    known = open_taxibj(expected, city)
    assert known.series == "expected"
    assert np.array_equal(known.flow.values, simulation.expected)
    assert np.array_equal(known.flow["time"].values, simulation.time)


def test_files_are_named_as_those_of_taxibj(tmp_path: Path) -> None:
    city = replace(SMALL, name="sim", step=6 * HOUR, grid=(3, 2))
    assert [path.name for path in write_simulation(tmp_path, city, 45, seed=0)] == [
        "SIM25_M3x2_T360_InOut.h5",
        "SIM26_M3x2_T360_InOut.h5",
        "expected.h5",
        "sim.toml",
    ]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    "city",
    [
        replace(SMALL, grid=(2, 2)),
        replace(SMALL, grid=(2, 2), title='The "north" \\ Zürich', step=np.timedelta64(450, "s")),
        replace(SMALL, grid=(2, 2), bbox=(-74.0, 40.5, -73.5, 41.0), first_slot=0, row0="south"),
    ],
)
def test_the_toml_file_describes_the_city(tmp_path: Path, city: City) -> None:
    assert read_city(write_simulation(tmp_path, city, 1, seed=0)[-1]) == city


@pytest.mark.parametrize(
    ("grid", "weeks", "seed", "sentence"),
    [
        ((8, 6), 0, 0, "0 weeks is too short"),
        ((8, 6), 1, -1, "seed -1 is negative"),
        ((1024, 1024), 12, 0, "12 weeks of 48 slots a day on 1024x1024 cells take"),
        ((8, 6), 10**9, 0, "fewer weeks"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    grid: tuple[int, int], weeks: int, seed: int, sentence: str
) -> None:
    with pytest.raises(FlowcastError, match=sentence):
        simulate(replace(SMALL, grid=grid), weeks, seed)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FlowcastError, match="cannot be made"):
        write_simulation(tmp_path / "file", replace(SMALL, grid=(1, 1)), 1, seed=0)


def test_what_is_foreseen_lies_between_the_expected_flow_and_what_is_usual() -> None:
    simulation = simulate(SMALL, weeks=2)
    errors = [
        np.sqrt(np.mean((foreseen(SMALL, lead, weeks=2) - simulation.counts) ** 2))
        for lead in (0, 1, 4, 400)
    ]
    np.testing.assert_array_equal(foreseen(SMALL, 0, weeks=2), simulation.expected)
    assert errors == sorted(errors)


def test_what_is_foreseen_far_ahead_is_the_mean_of_the_quarters() -> None:
    # After 400 slots nothing is left of how busy they were: of tanh of symmetric numbers the mean is 0.
    flow, far = (foreseen(SMALL, lead, weeks=2) for lead in (0, 400))
    ratio = flow.sum(axis=0)[1] / far.sum(axis=0)[1]
    assert abs(ratio.mean() - 1) < 0.05
