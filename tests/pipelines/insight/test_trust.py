import time

import numpy as np
import pandas as pd
import pytest

from data.city import load_city
from data.store.ingests import Source
from data.store.scores import SERVED
from data.store.store import Store
from pipelines.ingest.replay import from_archive, play, store_past, target_city
from pipelines.insight.past_forecasts import past_forecasts
from pipelines.insight.trust import MIN_SCORES, skill, trust
from pipelines.operate.update import update


def scores(served: float, other: float, count: int = MIN_SCORES) -> pd.DataFrame:
    """Scores of single cells with these errors."""
    rows = [
        {
            **{"init_time": np.datetime64("2025-06-01", "s") + hour * np.timedelta64(1, "h")},
            **{"lead": 1, "forecaster": name, "count": 1, "squared": error**2},
            **{"absolute": error, "difference": error},
        }
        for hour in range(count)
        for name, error in ((SERVED, served), ("last-week", other), ("persistence", 2 * other))
    ]
    return pd.DataFrame(rows)


def test_skill_is_the_gain_over_the_best_baseline_of_the_same_forecasts() -> None:
    found = skill(scores(8.6, 10))
    assert found is not None
    assert (found.baseline, found.leads) == ("last-week", MIN_SCORES)
    assert found.gain == pytest.approx(0.14)
    worse = skill(scores(12, 10))
    assert worse is not None
    assert worse.gain == pytest.approx(-0.2)


def test_nothing_is_said_of_skill_where_little_is_scored() -> None:
    assert skill(scores(8, 10, MIN_SCORES - 1)) is None
    assert skill(scores(8, 10).iloc[:0]) is None
    only = scores(8, 10)
    assert skill(only[only["forecaster"] == SERVED]) is None


def test_what_stands_above_a_forecast_and_its_record(small_store: Store) -> None:
    store, source = small_store, load_city("small")
    city = target_city(source, "small-live")
    _, flow = store_past(store, source, city, from_archive(store, source, None))
    times = flow["time"].values
    now = times[0]
    for now in play(flow[:14], city):
        update(store, city, now, horizon=3, wall=time.time() + 60)
    made = store.forecasts.newest(city)
    assert made is not None
    newest = made["init_time"].values[0]
    sums = store.scores.sums(city, newest - np.timedelta64(7, "D"), newest)
    found = trust(store, city, made, now, skill(sums))
    assert (found.newest, found.age, found.missing) == (times[13], 0, 0)
    assert found.version == store.promotions.champion(city) or found.version == ""
    assert not [one for one in found.banners if one.level == "error"]
    late = trust(store, city, made, now + np.timedelta64(9, "h"), None)
    assert late.age == 9 * 3600
    assert late.banners[0].level == "error"
    assert "9 h 00 min ago" in late.banners[0].text

    kept = past_forecasts(store, city, newest)
    assert kept is not None
    assert kept.forecast.sizes["init_time"] == 14
    # What came is the archive's; nothing has come of the newest forecast.
    flow = store.flow.read(city)
    for lead in range(3):
        valid = kept.forecast["valid_time"].values[10, lead]
        np.testing.assert_array_equal(
            kept.observed[10, lead], flow.sel(time=valid, drop=True).values
        )
    assert np.isnan(kept.observed[-1].values).all()
    again = store.forecasts.newest(city, kept.forecast["init_time"].values[4])
    assert again is not None
    np.testing.assert_array_equal(kept.forecast[4], again[0].values)


def test_the_state_changes_with_whatever_is_stored_and_only_then(small_store: Store) -> None:
    store, city = small_store, load_city("small")
    seen = [store.change_token(city)]
    assert store.change_token(city) == seen[0]
    store.ingests.add_refusal(city, Source("x.h5", ""), "for a test")
    seen.append(store.change_token(city))
    update(store, city, np.datetime64("2026-01-01", "s"), horizon=2)
    seen.append(store.change_token(city))
    store.promotions.decide(city, "v", "refused", "for a test", np.datetime64("2026-01-01", "s"))
    seen.append(store.change_token(city))
    claim = store.runs.claim(
        "step", city.name, np.datetime64("2026-01-01", "s"), np.datetime64("2026-01-01", "s"), 9
    )
    assert claim is not None
    seen.append(store.change_token(city))
    store.runs.finish(claim, np.datetime64("2026-01-01T00:01", "s"), "done")
    seen.append(store.change_token(city))
    assert len({*seen}) == len(seen)
    listed = store.forecasts.table(city)
    assert listed["horizon"].tolist() == [2]
    assert listed["version"].tolist() == [store.promotions.champion(city)]
