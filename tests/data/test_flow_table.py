from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.city import City
from data.errors import FlowcastError
from data.flow_table import open_flow_table
from data.readers import input_files, read_file
from data.taxibj import Reading

HOUR = np.timedelta64(3600, "s")
CITY = City("toy", "Toy", "Europe/Berlin", HOUR, (2, 3), country="")


def rows(times: list[str]) -> pd.DataFrame:
    """A row for each cell: inflow 100 t + 10 y + x, outflow half of it."""
    cells = [
        (time, y, x, 100 * t + 10 * y + x, (100 * t + 10 * y + x) / 2)
        for t, time in enumerate(times)
        for y in range(2)
        for x in range(3)
    ]
    return pd.DataFrame(cells, columns=["time", "y", "x", "inflow", "outflow"])


def written(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_is_the_flow_of_its_rows_in_any_order(tmp_path: Path, suffix: str) -> None:
    table = rows(["2026-01-01T00:00", "2026-01-01T01:00", "2026-01-01T03:00"])
    path = written(table.sample(frac=1, random_state=0), tmp_path / f"x{suffix}")
    reading = read_file(path, CITY)
    assert isinstance(reading, Reading)
    flow = reading.flow
    # Berlin is an hour ahead of UTC in winter.
    assert [*flow["time"].values] == [
        np.datetime64(f"{one}:00")
        for one in ("2025-12-31T23:00", "2026-01-01T00:00", "2026-01-01T02:00")
    ]
    np.testing.assert_array_equal(flow.values[2, 0], [[200, 201, 202], [210, 211, 212]])
    np.testing.assert_array_equal(flow.values[1, 1], [[50, 50.5, 51], [55, 55.5, 56]])
    assert reading.repairs.keys() == {"unsorted"}
    assert input_files([tmp_path]) == [path]


def test_times_may_have_an_offset_or_be_those_of_a_database(tmp_path: Path) -> None:
    hours = [np.datetime64("2026-10-25T00:00:00"), np.datetime64("2026-10-25T01:00:00")]
    table = rows(["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"])
    told = open_flow_table(written(table, tmp_path / "a.csv"), CITY)
    assert [*told.flow["time"].values] == hours
    table["time"] = np.repeat(pd.DatetimeIndex(hours).tz_localize("UTC"), 6)
    again = open_flow_table(written(table, tmp_path / "a.parquet"), CITY)
    assert again.flow.identical(told.flow)


def test_what_can_be_repaired_is_counted(tmp_path: Path) -> None:
    table = rows(["2026-01-01T00:00", "2026-01-01T01:00", "2026-01-01T02:00"])
    table.loc[1, "inflow"] = -3
    table.loc[8, "outflow"] = np.nan
    table = pd.concat([table, table.tail(2)])
    reading = open_flow_table(written(table, tmp_path / "x.csv"), CITY)
    assert reading.repairs == {
        "negative": 1,
        "not_finite": 1,
        "duplicates_equal": 1,
    }
    assert reading.flow.sizes["time"] == 2
    assert reading.flow.values[0, 0, 0, 1] == 0


REFUSED = {
    "lacks 2 cells": lambda t: t.drop(index=[3, 4]),
    "outside the grid of 2x3": lambda t: t.assign(x=t["x"] + 1),
    "no column outflow": lambda t: t.drop(columns="outflow").assign(outflows=1),
    "'many' in its column inflow": lambda t: t.assign(inflow="many"),
    "a time that is none": lambda t: t.assign(time="soon"),
    "showed twice or never": lambda t: t.assign(time="2026-03-29T02:00"),
    "begin every 60 min from midnight": lambda t: t.assign(time="2026-01-01T00:20"),
    "with and without an offset": lambda t: t.assign(
        time=["2026-01-01T00:00Z", *["2026-01-01T00:00"] * 5]
    ),
    "twice with other values": lambda t: pd.concat([t, t.assign(inflow=5).head(1)]),
    "no row beneath": lambda t: t.head(0),
    "no slot without missing values": lambda t: t.assign(inflow=np.nan),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_broken_table_is_one_sentence(tmp_path: Path, sentence: str) -> None:
    path = written(REFUSED[sentence](rows(["2026-01-01T00:00"])), tmp_path / "x.csv")
    with pytest.raises(FlowcastError, match=sentence) as caught:
        open_flow_table(path, CITY)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = written(rows(["2026-01-01T00:00", "2026-01-01T01:00"]), tmp_path / "x.csv")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(FlowcastError, match="does not end with a line break"):
        open_flow_table(path, CITY)
    table = written(rows(["2026-01-01T00:00"]), tmp_path / "x.parquet")
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(FlowcastError, match="cannot be read"):
        open_flow_table(table, CITY)
