import numpy as np

from data.city import City, load_city
from data.flow import label
from data.store.ingests import Source
from data.store.store import Store
from pipelines.insight.typical import MIN_WEEKS, typical
from tests.pipelines.weeks import hourly


def test_mean_and_percentile_are_those_of_the_same_hour_of_the_weeks_before(
    small_store: Store,
) -> None:
    city = hourly("weeks")
    # Six Mondays at 09:00 saw 10, 20 .. 60; the seventh is asked for.
    start = np.datetime64("2025-06-02T09:00", "s")  # a Monday, UTC
    values = np.zeros((6, 2, 1, 2), np.float32)
    values[:, 0, 0, 0] = np.arange(10, 70, 10)
    times = start + np.arange(6) * np.timedelta64(7, "D")
    small_store.flow.add(city, label(values, times, city), source=Source("six", ""))
    asked = start + np.timedelta64(42, "D")
    found = typical(small_store, city, np.array([asked]), asked)
    assert found["weeks"].values.tolist() == [6]
    assert float(found["mean"][0, 0, 0, 0]) == 35
    # numpy's linear quantile of 10 .. 60 at 0.95: 50 + 0.75 * 10.
    assert float(found["high"][0, 0, 0, 0]) == 57.5


def test_nothing_is_usual_where_weeks_are_too_few_or_would_be_of_the_future(
    small_store: Store,
) -> None:
    city = hourly("weeks")
    start = np.datetime64("2025-06-02T09:00", "s")
    times = start + np.arange(8) * np.timedelta64(7, "D")
    flow = label(np.ones((8, 2, 1, 2), np.float32), times, city)
    small_store.flow.add(city, flow, source=Source("eight", ""))
    early = times[MIN_WEEKS]
    found = typical(small_store, city, np.array([early]), early)
    assert found["weeks"].values.tolist() == [MIN_WEEKS]
    found = typical(small_store, city, np.array([early]), times[MIN_WEEKS - 1])
    assert found["weeks"].values.tolist() == [MIN_WEEKS - 1]
    assert np.isnan(found["mean"].values).all()


def test_the_hour_is_that_of_the_clocks_where_they_were_moved_between(small_store: Store) -> None:
    city: City = load_city("small")  # New York; clocks go forward on 9 March 2025
    flow = small_store.flow.read(city)
    asked = np.datetime64("2025-04-07T13:00", "s")  # Monday, 09:00 there
    found = typical(small_store, city, np.array([asked]), np.datetime64("2025-04-07T00:00", "s"))
    # Mondays at 09:00: 3 March at 14:00 UTC, then at 13:00 UTC.
    same = ["2025-03-03T14:00", "2025-03-10T13:00", "2025-03-17T13:00", "2025-03-24T13:00"]
    same.append("2025-03-31T13:00")
    expected = flow.sel(time=np.array(same, "datetime64[s]")).mean("time")
    np.testing.assert_allclose(found["mean"][0], expected, rtol=1e-6)
