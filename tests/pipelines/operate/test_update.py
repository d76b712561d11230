import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from data.city import City, load_city
from data.clock import wall
from data.errors import FlowcastError
from data.files import exclusive_lock
from data.flow import label, split
from data.store.ingests import Source
from data.store.scores import SERVED
from data.store.store import Store
from forecasting.baselines import BASELINES
from pipelines.forecast.live import forecast
from pipelines.ingest.replay import from_archive, play, store_past, target_city
from pipelines.operate import update as update_module
from pipelines.operate.drift import drift
from pipelines.operate.score import score
from pipelines.operate.update import update
from pipelines.promotion.rollback import roll_back

HORIZON = 3
NOW = np.datetime64("2026-01-01T00:00", "s")


class Live(NamedTuple):
    """A city whose archive ends before the test days, and the one that is played into it."""

    store: Store
    source: City
    city: City
    flow: xr.DataArray

    @property
    def times(self) -> np.ndarray:
        return np.asarray(self.flow["time"].values)


@pytest.fixture
def live(small_store: Store) -> Live:
    store, source = small_store, load_city("small")
    city = target_city(source, "small-live")
    _, flow = store_past(store, source, city, from_archive(store, source, None))
    return Live(store, source, city, flow)


def stepped(live: Live, count: int) -> list[np.datetime64]:
    """Plays some slots, a step after each; returns the moments."""
    moments = []
    for now in play(live.flow[:count], live.city):
        update(live.store, live.city, now, horizon=HORIZON, wall=time.time() + 60)
        moments.append(now)
    return moments


def test_each_slot_is_forecast_once_and_each_matured_lead_scored(live: Live) -> None:
    stepped(live, 8)
    store, city = live.store, live.city
    made = list(store.forecasts.between(city, live.times[0] - 1, live.times[7]))
    assert [one["init_time"].values[0] for one in made] == [*live.times[:8]]
    table = store.scores.table(city, live.times[0] - 1, live.times[7])
    served = table[table["forecaster"] == SERVED]
    pairs = {
        (int(at), int(lead))
        for at, lead in zip(
            np.searchsorted(live.times, served["init_time"]), served["lead"], strict=True
        )
    }
    assert pairs == {(n, lead) for n in range(8) for lead in (1, 2, 3) if n + lead < 8}
    assert {*table["forecaster"]} == {SERVED, *BASELINES}
    assert (table["revision"] == 0).all()
    again = update(store, city, live.times[7] + np.timedelta64(3599, "s"), horizon=HORIZON)
    assert (again.init_time, again.scored, again.files) == (None, 0, 0)


def test_scores_are_those_of_the_stored_forecast_and_of_baselines_that_know_no_future(
    live: Live,
) -> None:
    stepped(live, 4)
    store, city = live.store, live.city
    first = live.times[0]
    table = store.scores.table(city, first - 1, first).set_index(["forecaster", "lead"])
    flow = store.flow.read(city, first=first, last=live.times[3])
    stored = store.forecasts.newest(city, first)
    assert stored is not None
    for lead in (1, 2, 3):
        error = stored.values[0, lead - 1].astype(float) - flow.values[lead]
        row = table.loc[(SERVED, lead)]
        assert row["squared"] == pytest.approx(np.square(error).sum(), rel=1e-6)
        assert row["absolute"] == pytest.approx(np.abs(error).sum(), rel=1e-6)
        assert row["difference"] == pytest.approx(error.sum(), rel=1e-5, abs=1e-3)
        assert row["count"] == error.size
        kept = flow.values[0].astype(float) - flow.values[lead]
        assert table.loc[("persistence", lead)]["squared"] == pytest.approx(
            np.square(kept).sum(), rel=1e-6
        )
    # The average of all but what came after the first forecast.
    known = store.flow.read(city, last=first)
    shown = wall(known["time"].values, city.timezone) - wall(live.times[1], city.timezone)
    usual = known.values[shown % np.timedelta64(7, "D") == np.timedelta64(0)].mean(axis=0)
    expected = np.square(usual.astype(float) - flow.values[1]).sum()
    assert table.loc[("historical-average", 1)]["squared"] == pytest.approx(expected, rel=1e-4)


def test_a_slot_that_comes_late_is_forecast_and_it_or_a_corrected_one_is_scored_anew(
    live: Live,
) -> None:
    store, city = live.store, live.city
    late = store.flow.read(live.source, first=live.times[2], last=live.times[2])
    late.attrs["city"] = city.name
    without = live._replace(flow=live.flow.drop_isel(time=2))
    stepped(without, 5)
    before = store.scores.table(city, live.times[0] - 1, live.times[5])
    assert not (
        before["init_time"] + before["lead"] * np.timedelta64(1, "h") == live.times[2]
    ).any()
    store.flow.add(city, late, source=Source("late.h5", ""))
    now = live.times[5] + np.timedelta64(3600, "s")
    done = update(store, city, now, horizon=HORIZON)
    # As lead 1 and 2 of the forecasts before, and leads 1 to 3 of its own.
    assert (done.init_time, done.scored) == (live.times[2], 5)
    store.flow.add(city, late + 1, source=Source("corrected.h5", ""), replace=True)
    assert update(store, city, now, horizon=HORIZON).scored == 2
    table = store.scores.table(city, live.times[0] - 1, live.times[5])
    assert [*table[table["forecaster"] == SERVED]["revision"]].count(1) == 2


def test_slots_that_come_together_are_each_forecast_by_what_was_known(live: Live) -> None:
    stepped(live, 1)
    for _ in play(live.flow[1:5], live.city):
        pass
    now = live.times[5]
    done = update(live.store, live.city, now, horizon=HORIZON, wall=time.time() + 60)
    assert (done.files, done.init_time) == (4, live.times[4])
    made = list(live.store.forecasts.between(live.city, live.times[0] - 1, now))
    assert [one["init_time"].values[0] for one in made] == [*live.times[:5]]
    alone = forecast(live.store, live.city, HORIZON, at=live.times[2])
    np.testing.assert_allclose(made[2].values, alone.values, rtol=1e-6)


def test_a_city_that_is_a_day_old_is_scored_without_the_baselines_that_look_a_week_back(
    database: str, flowcast_home: Path
) -> None:
    (flowcast_home / "cities").mkdir(parents=True, exist_ok=True)
    (flowcast_home / "cities" / "new.toml").write_text(
        'timezone = "UTC"\nstep = "1h"\ngrid = [2, 3]\n'
    )
    store, city = Store(), load_city("new")
    times = NOW + np.arange(25) * np.timedelta64(1, "h")
    flow = label(np.ones((25, 2, 2, 3)), times, city)
    store.flow.add(city, flow[:24], source=Source("day.h5", ""))
    update(store, city, times[23], horizon=1)
    store.flow.add(city, flow[24:], source=Source("hour.h5", ""))
    assert update(store, city, times[24], horizon=1).scored == 1
    found = {*store.scores.table(city, NOW, times[24])["forecaster"]}
    assert {SERVED, "persistence"} <= found and "last-week" not in " ".join(found)
    store.close()


def forecasts(live: Live) -> list[np.datetime64]:
    made = live.store.forecasts.between(live.city, live.times[0] - 1, live.times[-1])
    return [one["init_time"].values[0] for one in made]


def matured(live: Live, count: int) -> None:
    """Asserts that of the first slots each is forecast once and each lead that has come is scored."""
    assert forecasts(live) == [*live.times[:count]]
    table = live.store.scores.table(live.city, live.times[0] - 1, live.times[-1])
    expected = sum(min(HORIZON, count - 1 - n) for n in range(count))
    assert (table["forecaster"] == SERVED).sum() == expected
    assert not table.duplicated(["init_time", "lead", "forecaster"]).any()


def test_slots_that_come_in_any_order_are_all_forecast_and_scored(live: Live) -> None:
    order = [0, 3, 1, 6, 5, 2, 4, 7]
    for number in order:
        stepped(live._replace(flow=live.flow[[number]]), 1)
        update(live.store, live.city, live.times[8], horizon=HORIZON)
    matured(live, 8)


def test_of_many_slots_that_come_at_once_the_newest_are_forecast_first_and_then_all(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_module, "MAX_FORECASTS", 3)
    stepped(live, 1)
    for _ in play(live.flow[1:9], live.city):
        pass
    now, found = live.times[9], []
    for _ in range(4):
        update(live.store, live.city, now, horizon=HORIZON, wall=time.time() + 60)
        found.append(len(forecasts(live)))
        assert forecasts(live)[-1] == live.times[8]
    assert found == [4, 7, 9, 9]
    matured(live, 9)


@pytest.mark.parametrize("error", [FlowcastError("no"), ValueError("a bug")], ids=["told", "bug"])
def test_a_slot_whose_forecast_failed_keeps_no_other_from_it_and_is_forecast_later(
    live: Live, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    stepped(live, 1)
    for _ in play(live.flow[1:5], live.city):
        pass

    def fails(*arguments: Any, at: np.datetime64) -> Any:
        if at == live.times[2]:
            raise error
        return forecast(*arguments, at=at)

    with monkeypatch.context() as patch:
        patch.setattr(update_module, "forecast", fails)
        done = update(live.store, live.city, live.times[5], horizon=HORIZON, wall=time.time() + 60)
    assert done.failed == f"no forecast of {live.times[2]}Z: {error}"
    assert forecasts(live) == [*live.times[[0, 1, 3, 4]]] and done.scored > 0
    assert update(live.store, live.city, live.times[5], horizon=HORIZON).failed == ""
    matured(live, 5)


def test_slots_ahead_of_the_clock_are_forecast_when_it_is_their_time(live: Live) -> None:
    stepped(live, 1)
    for _ in play(live.flow[1:6], live.city):
        pass
    for now in (live.times[2], live.times[2] - np.timedelta64(1, "D"), live.times[6]):
        update(live.store, live.city, now, horizon=HORIZON, wall=time.time() + 60)
    matured(live, 6)


def test_a_champion_that_cannot_serve_leaves_a_forecast_all_the_same(live: Live) -> None:
    store = live.store
    store.promotions.promote(live.city, "20200101-000000-abcd00", "for the test")
    stepped(live, 1)
    stored = store.forecasts.newest(live.city)
    assert stored is not None and stored.attrs["model_version"] == ""
    assert "stands in" in stored.attrs["notes"]


def test_where_another_process_takes_in_the_files_there_is_a_forecast_all_the_same(
    live: Live, flowcast_home: Path
) -> None:
    now = next(play(live.flow[:1], live.city))
    lock = flowcast_home / "inbox" / f".{live.city.name}.lock"
    with exclusive_lock(lock, "another"):
        done = update(live.store, live.city, now, horizon=HORIZON, wall=time.time() + 60)
    assert done.files == 0 and done.init_time is not None
    assert "another process is ingesting" in done.notes[0]
    again = update(live.store, live.city, now, horizon=HORIZON, wall=time.time() + 60)
    assert (again.files, again.init_time) == (1, live.times[0])


def test_a_city_without_flow_steps_without_an_error(live: Live) -> None:
    empty = target_city(live.source, "empty")
    done = update(live.store, empty, live.times[0], horizon=HORIZON)
    assert (done.init_time, done.scored, done.files) == (None, 0, 0)


def test_drift_is_flagged_where_totals_leave_those_of_the_weeks_before(live: Live) -> None:
    store, city = live.store, live.city
    newest = store.flow.span(city)
    assert newest is not None
    calm = drift(store, city, newest[1])
    assert calm is not None and not calm.flagged
    last = store.flow.read(city, first=newest[1] - np.timedelta64(23, "h"))
    store.flow.add(city, last * 0.5, source=Source("half.h5", ""), replace=True)
    found = drift(store, city, newest[1])
    assert found is not None and found.flagged
    assert found.total == pytest.approx(calm.total / 2, rel=1e-6)
    assert found.usual_total == pytest.approx(calm.usual_total)
    assert "below" in found.message
    assert len(store.drifts.table(city)) == 1


def test_the_error_of_a_day_is_compared_with_no_less_than_a_day(live: Live) -> None:
    store, city = live.store, live.city
    span = store.flow.span(city)
    assert span is not None
    at = span[1] - np.arange(50) * city.step
    made = store.forecasts.add(city, forecast(store, city, HORIZON))
    every = {"lead": 1, "forecaster": SERVED, "forecast": made, "ingest": 1, "count": 1}
    every |= {"absolute": 1.0, "difference": 0.0}
    # The day's errors are four times those of the hours before it.
    scores = pd.DataFrame({"init_time": at, "squared": np.where(np.arange(50) < 24, 16.0, 1.0)})
    store.scores.add(city, scores.assign(**every)[:44])  # of the day before only 20 hours
    found = drift(store, city, span[1])
    assert found is not None
    assert (found.error, found.usual_error, found.flagged) == (4.0, None, False)
    store.scores.add(city, scores.assign(**every)[44:])
    found = drift(store, city, span[1])
    assert found is not None
    assert (found.error, found.usual_error, found.flagged) == (4.0, 1.0, True)
    assert "RMSE 4.00 in that day, 4.0 times the 1.00 of the 28 days before" in found.message


@pytest.mark.parametrize(("day", "hours"), [("2016-11-06", 25), ("2016-03-13", 23)])
def test_a_day_on_which_clocks_are_moved_is_played_whole(
    on_sqlite: None, flowcast_home: Path, day: str, hours: int
) -> None:
    (flowcast_home / "cities").mkdir(parents=True, exist_ok=True)
    (flowcast_home / "cities" / "york.toml").write_text(
        'timezone = "America/New_York"\nstep = "1h"\ngrid = [2, 3]\n'
    )
    store, city = Store(), load_city("york")
    begins = np.datetime64(day, "s") + np.timedelta64(4 if hours == 25 else 5, "h")
    times = begins + np.arange(-24, hours) * np.timedelta64(1, "h")
    # Nights are all alike: nothing in the values tells one hour from the other.
    flow = label(np.ones((len(times), 2, 2, 3)), times, city)
    store.flow.add(city, flow, source=Source("york.h5", ""))
    into = target_city(city, "york-live")
    _, flow = store_past(store, city, into, from_archive(store, city, begins))
    played = flow["time"].values
    assert len(played) == hours
    for now in play(flow, into):
        update(store, into, now, horizon=HORIZON, wall=time.time() + 60)
    assert [*store.flow.times(into)["time"].values] == [*times]
    made = store.forecasts.between(into, begins - 1, times[-1])
    assert [one["init_time"].values[0] for one in made] == [*played]
    scores = store.scores.table(into, begins - 1, times[-1])
    assert (scores["forecaster"] == SERVED).sum() == 3 * hours - 6
    store.close()


class Two(NamedTuple):
    """A city with a champion, the version before it, and scored forecasts of the champion."""

    store: Store
    city: City
    good: str
    other: str
    times: np.ndarray


@pytest.fixture
def two(small_store: Store, flowcast_home: Path) -> Two:
    store, city = small_store, load_city("small")
    good, other = str(store.promotions.champion(city)), "20990101-000000-abcd00"
    folder = flowcast_home / "models" / "small"
    _copied(folder / good, folder / other)
    store.promotions.decide(city, other, "promoted", "for the test", NOW)
    times = split(store.flow.times(city), city).test.values[:12]
    for time_ in times[:9]:
        forecast(store, city, HORIZON, at=time_)
    return Two(store, city, good, other, times)


def test_a_champion_far_off_gives_way_once(two: Two) -> None:
    _spoil(two.store, two.city)
    score(two.store, two.city, two.times[-1])
    text = roll_back(two.store, two.city, two.times[-1], NOW)
    assert text.startswith(f"went back to version {two.good}")
    assert two.store.promotions.champion(two.city) == two.good
    assert [*two.store.promotions.decisions(two.city)["verdict"]][-1] == "rolled back"
    assert roll_back(two.store, two.city, two.times[-1], NOW) == ""


def test_forecasts_from_before_a_promotion_are_no_reason_to_take_it_back(two: Two) -> None:
    _spoil(two.store, two.city)
    score(two.store, two.city, two.times[-1])
    for version in (two.good, two.other):  # somebody looked, and promoted it all the same
        two.store.promotions.decide(two.city, version, "promoted", "by hand", NOW)
    assert roll_back(two.store, two.city, two.times[-1], NOW) == ""
    assert two.store.promotions.champion(two.city) == two.other


def test_a_champion_that_errs_as_expected_stays(two: Two) -> None:
    score(two.store, two.city, two.times[-1])
    assert roll_back(two.store, two.city, two.times[-1], NOW) == ""
    assert two.store.promotions.champion(two.city) == two.other


def _copied(version: Path, to: Path) -> None:
    """Copies a version under another name."""
    import json
    import shutil

    shutil.copytree(version, to)
    manifest = json.loads((to / "manifest.json").read_text())
    (to / "manifest.json").write_text(json.dumps(manifest | {"version": to.name}))


def _spoil(store: Store, city: City) -> None:
    """Makes every stored forecast wrong by 500 vehicles a cell."""
    import sqlalchemy as sa

    from data.store.schema import FORECAST

    with store._database.write() as connection:
        for row in connection.execute(sa.select(FORECAST.c.id, FORECAST.c.frames)).all():
            frames = (np.frombuffer(row.frames, "<f4") + np.float32(500)).tobytes()
            connection.execute(
                sa.update(FORECAST).where(FORECAST.c.id == row.id).values(frames=frames)
            )
