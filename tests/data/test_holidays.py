import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from data.city import City
from data.flow import label
from data.holidays import HOLIDAY, ORDINARY, WORKED, Holidays

CHINA, NEW_YORK = Holidays("CN"), Holidays("US", "NY")
COUNTRIES = st.sampled_from(
    [Holidays(), Holidays("US"), NEW_YORK, CHINA, Holidays("DE", "BY"), Holidays("HU")]
)


def kind(holidays: Holidays, *days: str) -> list[int]:
    return holidays.day_types(np.array(days, dtype="datetime64[D]")).tolist()


def year(number: int) -> np.ndarray:
    first = np.datetime64(f"{number}-01-01", "D")
    return np.arange(first, np.datetime64(f"{number + 1}-01-01", "D"))


def days_of(holidays: Holidays, number: int, what: int) -> set[str]:
    return set(year(number)[holidays.day_types(year(number)) == what].astype(str).tolist())


def span(first: str, last: str) -> set[str]:
    return set(np.arange(np.datetime64(first), np.datetime64(last) + 1).astype(str).tolist())


def published(path: Path) -> np.ndarray:
    """The days of a list of holidays, one YYYYMMDD a line."""
    lines = path.read_text().split()
    return np.array([f"{day[:4]}-{day[4:6]}-{day[6:8]}" for day in lines], dtype="datetime64[D]")


# Days that are known by heart


def test_federal_holidays_of_the_united_states() -> None:
    # 5 USC 6103: the 4th Thursday in November, the 3rd Monday in January; Sunday's on Monday
    holidays = ["2024-11-28", "2016-01-18", "2016-12-25", "2016-12-26", "2021-07-05", "2013-05-27"]
    assert kind(Holidays("US"), *holidays) == 6 * [HOLIDAY]
    ordinary = ["2024-11-29", "2016-01-17", "2016-12-24", "2016-02-12", "2016-03-13"]
    assert kind(Holidays("US"), *ordinary) == 5 * [ORDINARY]


def test_a_state_has_holidays_of_its_own() -> None:
    lincoln = "2016-02-12"
    assert kind(NEW_YORK, lincoln) == [HOLIDAY]
    assert kind(Holidays("US"), lincoln) == [ORDINARY]


def test_china_s_year_2016_is_that_of_the_announcement() -> None:
    # General Office of the State Council, notice 18 of 2015: days off in a row where exchanged
    off = {"2016-01-01", "2016-04-04", "2016-05-01", "2016-05-02"}
    off |= span("2016-02-07", "2016-02-13") | span("2016-06-09", "2016-06-11")
    off |= span("2016-09-15", "2016-09-17") | span("2016-10-01", "2016-10-07")
    assert days_of(CHINA, 2016, HOLIDAY) == off
    worked = {"02-06", "02-14", "06-12", "09-18", "10-08", "10-09"}
    assert days_of(CHINA, 2016, WORKED) == {f"2016-{day}" for day in worked}


def test_a_year_s_announcement_reaches_into_the_year_before() -> None:
    # New Year 2012: 1 to 3 January off, Saturday 31 December 2011 worked
    assert kind(CHINA, "2011-12-31", "2012-01-01", "2012-01-03") == [WORKED, HOLIDAY, HOLIDAY]


def test_without_a_country_no_day_is_a_holiday_and_none_unknown() -> None:
    assert kind(Holidays(), "2016-12-25", "1600-01-01") == [ORDINARY, ORDINARY]
    assert Holidays().unknown(year(2016)) == ()


# What is not known is said


def test_years_without_an_announcement_are_unknown() -> None:
    assert CHINA.unknown(year(2016)) == ()
    assert CHINA.unknown(np.concatenate([year(2000), year(2001), year(2060)])) == (2000, 2060)
    assert kind(CHINA, "2060-02-02") == [HOLIDAY]  # the moon's new year is known all the same


def test_years_that_a_calendar_does_not_reach_are_unknown() -> None:
    days = np.array([["1700-07-04", "2016-07-04"], ["2400-07-04", "2016-01-01"]], "datetime64[D]")
    assert NEW_YORK.unknown(days) == (1700, 2400)
    assert NEW_YORK.day_types(days).tolist() == [[ORDINARY, HOLIDAY], [ORDINARY, HOLIDAY]]


def test_estimated_days_make_a_year_unknown() -> None:
    # Eid al-Fitr 2024 was 10 April in Egypt; that of 2080 nobody has sighted
    egypt = Holidays("EG")
    assert kind(egypt, "2024-04-10") == [HOLIDAY]
    assert egypt.unknown(np.concatenate([year(2024), year(2080)])) == (2080,)


# Against lists that others published with their data


def test_beijing_s_list_has_our_days_and_weekends_beside_them(real_data: Path) -> None:
    listed = published(real_data / "taxibj-calendar" / "BJ_Holiday.txt")
    days = np.arange(np.datetime64("2013-01-01"), listed[-1] + 1)
    kinds = CHINA.day_types(days)
    assert set(days[kinds == HOLIDAY]) <= set(listed)
    assert not set(days[kinds == WORKED]) & set(listed)
    rest = np.array(sorted(set(listed) - set(days[kinds == HOLIDAY])))
    assert np.is_busday(rest).sum() == 0
    assert len(rest) == 15


def test_new_york_s_list_differs_by_days_of_remembrance_alone(real_data: Path) -> None:
    listed = published(real_data / "nyc-taxi-hourly" / "NY_Holiday.txt")
    days = np.arange(np.datetime64("2010-01-01"), np.datetime64("2014-12-31"))
    ours = days[NEW_YORK.day_types(days) == HOLIDAY]
    federal = days[Holidays("US").day_types(days) == HOLIDAY]
    assert set(federal) <= set(listed)
    only = sorted(str(day)[5:] for day in set(listed) - set(ours))
    assert only == [*5 * ["06-19"], "11-05", "11-08"]  # Juneteenth; elections of odd years
    assert {str(day)[5:] for day in set(ours) - set(listed)} == {"02-15"}  # Susan B. Anthony


# What holds for all


@given(
    COUNTRIES,
    arrays("datetime64[D]", array_shapes(min_dims=0, max_dims=3, min_side=0), elements=st.dates()),
)
def test_a_day_is_the_same_alone_and_among_others(holidays: Holidays, days: np.ndarray) -> None:
    kinds = holidays.day_types(days)
    assert (kinds.shape, kinds.dtype) == (days.shape, np.int8)
    alone = [int(holidays.day_types(day)) for day in days.ravel()]
    assert kinds.ravel().tolist() == alone


@pytest.mark.parametrize("number", range(2001, 2027))
def test_china_works_on_weekends_only(number: int) -> None:
    worked = np.array(sorted(days_of(CHINA, number, WORKED)), dtype="datetime64[D]")
    assert not np.is_busday(worked).any()


def test_holidays_travel_with_a_flow() -> None:
    hour = np.timedelta64(1, "h")
    city = City("toy", "Toy", "UTC", hour, (1, 1), country="CA", subdivision="QC")
    flow = label(np.zeros((1, 2, 1, 1)), np.array(["2025-01-01"], "datetime64[s]"), city)
    assert Holidays.of(flow) == Holidays("CA", "QC")
    assert Holidays.of(xr.DataArray()) == Holidays()


def test_only_the_country_asked_for_is_loaded() -> None:
    asked = "import sys; from data.holidays import Holidays; import numpy as np;"
    asked += "Holidays('US').day_types(np.array(['2024-11-28'], 'datetime64[D]'));"
    asked += "assert 'holidays' in sys.modules and 'holidays.countries' not in sys.modules"
    subprocess.run([sys.executable, "-c", asked], check=True)


def test_a_forecast_without_holidays_does_not_load_the_package() -> None:
    asked = "import sys; from data.holidays import Holidays; import numpy as np;"
    asked += "Holidays().day_types(np.array(['2024-11-28'], 'datetime64[D]'));"
    asked += "from data.city import load_city; load_city('demo');"
    asked += "assert 'holidays' not in sys.modules"
    subprocess.run([sys.executable, "-c", asked], check=True)


def test_weekends_are_those_of_the_country() -> None:
    # Friday and Saturday in Israel; Saturday and Sunday in the United States and without a country.
    found = [Holidays(country).weekend for country in ("IL", "US", "")]
    assert found == [(4, 5), (5, 6), (5, 6)]
