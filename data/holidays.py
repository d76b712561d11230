"""Holidays: which days people of a country have off, and which weekend days they work in exchange.

The days are those of the package `holidays`. Only the file of the one country is loaded: with all 250 of
`holidays.country_holidays` a cold forecast would start 0.3 to 0.6 s later. Some countries, China among
them, announce year by year which days off are exchanged for worked weekend days; the weekend beside such
a day off belongs to the same holiday, as in the announcements ("7 to 13 February, 7 days"). A year that is
not announced, or whose days are only estimated by the moon, is unknown: its days are still the best guess.
"""

import importlib.util
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

ORDINARY, HOLIDAY, WORKED = 0, 1, 2
WEEKEND = (5, 6)
DAY = timedelta(days=1)
EXCHANGES = "special_public_holidays"


@dataclass(frozen=True)
class Holidays:
    """The public holidays of a country.

    Attributes:
        country: ISO 3166 alpha-2 code, "" where no day is a holiday.
        subdivision: state or province as the package `holidays` names it, "" for what all have.
    """

    country: str = ""
    subdivision: str = ""

    @staticmethod
    def of(array: xr.DataArray) -> "Holidays":
        """Returns the holidays where a flow, or a past of it, comes from, by its attributes."""
        return Holidays(array.attrs.get("country", ""), array.attrs.get("subdivision", ""))

    @property
    def weekend(self) -> tuple[int, ...]:
        """Days of the week that people have off, Monday being 0; Saturday and Sunday of no country."""
        return tuple(sorted(_calendar(self.country).weekend)) if self.country else WEEKEND

    def day_types(self, days: np.ndarray) -> np.ndarray:
        """Returns what each day is, int8 of the same shape.

        It is `HOLIDAY` (observed and exchanged days included), `WORKED` (a weekend day that is worked
        in exchange) or `ORDINARY`, also where `unknown` returns the year. `days` are local days.
        """
        day = np.asarray(days, dtype="datetime64[D]")
        kinds = np.full(day.shape, ORDINARY, dtype=np.int8)
        if not self.country:
            return kinds
        years = day.astype("datetime64[Y]")
        for year in np.unique(years):
            in_year = years == year
            known = _year(self.country, self.subdivision, year.item().year)
            kinds[in_year] = known.kinds[(day[in_year] - year).astype(np.int64)]
        return kinds

    def unknown(self, days: np.ndarray) -> tuple[int, ...]:
        """Returns the years of `days` whose holidays the calendar does not know, or only in part.

        Without a country nothing is unknown.
        """
        if not self.country:
            return ()
        years = np.unique(np.asarray(days, dtype="datetime64[D]").astype("datetime64[Y]"))
        numbers = [int(year.item().year) for year in years]
        known = [_year(self.country, self.subdivision, number).known for number in numbers]
        return tuple(number for number, whole in zip(numbers, known, strict=True) if not whole)


def check_country(country: str, subdivision: str) -> None:
    """Raises ValueError where the country or its subdivision has no calendar; "" names none."""
    if not country:
        if subdivision:
            raise ValueError(f"subdivision = {subdivision!r} is of no country; set country too")
        return
    if country not in _modules():
        raise ValueError(
            f"country = {country!r} has no calendar of holidays; name another by the two capital "
            f'letters of ISO 3166, like "US", or leave it out'
        )
    calendar = _calendar(country)
    known = [*calendar.subdivisions, *calendar.subdivisions_aliases]
    if subdivision and subdivision not in known:
        choice = f"it has {', '.join(calendar.subdivisions)}" if known else "it has none"
        raise ValueError(f"subdivision = {subdivision!r} is unknown in {country}; {choice}")


class _Year(NamedTuple):
    """The kinds of a year's days from 1 January on, and whether all of them are known."""

    kinds: np.ndarray
    known: bool


@lru_cache(maxsize=1024)
def _year(country: str, subdivision: str, year: int) -> _Year:
    kinds = np.full(366, ORDINARY, dtype=np.int8)
    calendar = _calendar(country)
    if not calendar.start_year <= year <= calendar.end_year:
        return _Year(kinds, known=False)
    about = calendar(
        subdiv=subdivision or None,
        years=(year - 1, year, year + 1),  # a holiday may reach into the next year
        expand=False,
        language="en_US" if "en_US" in calendar.supported_languages else None,
    )
    announced = _exchanged(about)
    off = set(about) | {day for to in announced.values() for day in _beside(about, to)}
    for kind, days in ((HOLIDAY, off), (WORKED, about.weekend_workdays)):
        for day in days:
            if day.year == year:
                kinds[day.timetuple().tm_yday - 1] = kind
    kinds.setflags(write=False)
    names = [name for day, name in about.items() if day.year == year]
    estimated = any("estimated" in name for name in names)
    waiting = announced and not min(announced) <= year <= max(announced)
    return _Year(kinds, known=not (estimated or waiting))


def _exchanged(calendar: Any) -> dict[int, list[date]]:
    """Returns the days off that were exchanged for worked weekend days, by year of announcement."""
    found: dict[int, list[date]] = {}
    for year, entries in getattr(calendar, EXCHANGES, {}).items():
        for month, day, *origin in entries if isinstance(entries[0], tuple) else (entries,):
            if len(origin) > 1:  # a month and a day; a single one is the name of another holiday
                found.setdefault(year, []).append(date(year, month, day))
    return found


def _beside(calendar: Any, days: list[date]) -> set[date]:
    """Returns all days off that touch `days`, themselves included, in the years of `calendar`."""
    found = {day for day in days if day.year in calendar.years}
    for day in tuple(found):
        for step in (-DAY, DAY):
            beside = day + step
            while not calendar.is_working_day(beside):
                found.add(beside)
                beside += step
    return found


@lru_cache
def _modules() -> dict[str, tuple[str, str]]:
    """Returns the module and the class of each country by its two letters."""
    from holidays.registry import COUNTRIES  # it takes time, and not every city needs it

    return {names[1]: (module, names[0]) for module, names in COUNTRIES.items()}


@lru_cache
def _calendar(country: str) -> Any:
    """Returns the class of a country; of the package only its file is loaded."""
    import holidays

    module, name = _modules()[country]
    loaded = sys.modules.get(f"holidays.countries.{module}")
    if loaded is None:
        path = Path(str(holidays.__file__)).parent / "countries" / f"{module}.py"
        spec = importlib.util.spec_from_file_location(f"{__name__}.{module}", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} cannot be loaded")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    return getattr(loaded, name)
