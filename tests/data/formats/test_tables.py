import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from data.city import City
from data.errors import FlowcastError
from data.formats import table_chunks
from data.formats.reading import Reading
from data.formats.registry import input_files, read_file
from data.formats.tables import open_flow_table

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
    "has no time in its column time but": lambda t: t.assign(time="soon"),
    "ambiguous or does not exist": lambda t: t.assign(time="2026-03-29T02:00"),
    "begin every 60 min from midnight": lambda t: t.assign(time="2026-01-01T00:20"),
    "with and without an offset": lambda t: t.assign(
        time=["2026-01-01T00:00Z", *["2026-01-01T00:00"] * 5]
    ),
    "twice with other values": lambda t: pd.concat([t, t.assign(inflow=5).head(1)]),
    "no row beneath": lambda t: t.head(0),
    "no slot without missing or impossible": lambda t: t.assign(inflow=1e30),
    "no slot without missing": lambda t: t.assign(inflow=np.nan),
}


OTHER_TIMES = ["2026", "20260101", "2026010109", "1767225600", "0001-01-01T00:00"]
OTHER_TIMES += ["9999-12-31T23:00", "2026-01-01T00:00:00.5", "2026-01-01T25:00", ""]


@pytest.mark.parametrize("time", OTHER_TIMES)
def test_what_is_no_time_of_ours_is_refused(tmp_path: Path, time: str) -> None:
    path = written(rows(["2026-01-01T00:00"]).assign(time=time), tmp_path / "x.csv")
    with pytest.raises(FlowcastError, match="has no time in its column time but"):
        open_flow_table(path, CITY)


@pytest.mark.parametrize(
    "time", ["2026-01-01 00:00:00+01", "2025-12-31 23:00:00 UTC", "2026-01-01"]
)
def test_times_as_databases_write_them_are_taken(tmp_path: Path, time: str) -> None:
    path = written(rows([time]), tmp_path / "x.csv")
    assert [*open_flow_table(path, CITY).flow["time"].values] == [
        np.datetime64("2025-12-31T23", "s")
    ]


@pytest.mark.parametrize(
    "column",
    [pd.Timestamp("2026-01-01"), pd.Timedelta("1s"), True, [1.0], {"a": 1}, b"1"],
    ids=lambda value: type(value).__name__,
)
def test_parquet_columns_of_other_types_are_refused(tmp_path: Path, column: object) -> None:
    table = rows(["2026-01-01T00:00"])
    table["inflow"] = [column] * len(table)
    with pytest.raises(FlowcastError, match="in its column inflow; write numbers there"):
        open_flow_table(written(table, tmp_path / "x.parquet"), CITY)


def test_a_row_that_is_longer_than_the_header_is_refused(tmp_path: Path) -> None:
    path = written(rows(["2026-01-01T00:00"]), tmp_path / "x.csv")
    head, *lines = path.read_text().splitlines()
    for shifted in ([f"7,{line}" for line in lines], [f"{line},7" for line in lines]):
        path.write_text("\n".join([head, *shifted, ""]))
        with pytest.raises(FlowcastError):
            open_flow_table(path, CITY)
    path.write_text("\n".join([f"{head},inflow", *(f"{line},7" for line in lines), ""]))
    with pytest.raises(FlowcastError, match="the column inflow more than once"):
        open_flow_table(path, CITY)


def test_values_that_float32_cannot_hold_are_missing(tmp_path: Path) -> None:
    table = rows(["2026-01-01T00:00", "2026-01-01T01:00"])
    table["inflow"] = table["inflow"].astype(float)
    table.loc[0, "inflow"] = 1e300
    reading = open_flow_table(written(table, tmp_path / "x.csv"), CITY)
    assert (reading.flow.sizes["time"], reading.repairs) == (1, {"not_finite": 1})


def test_a_table_is_the_same_in_whatever_chunks_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = rows([f"2026-01-01T{hour:02}:00" for hour in range(20)]).sample(frac=1, random_state=1)
    paths = [written(table, tmp_path / name) for name in ("x.csv", "x.parquet")]
    whole = [open_flow_table(path, CITY) for path in paths]
    monkeypatch.setattr(table_chunks, "CHUNK_ROWS", 7)
    for path, one in zip(paths, whole, strict=True):
        again = open_flow_table(path, CITY)
        assert again.flow.identical(one.flow) and again.repairs == one.repairs
    # Inflow is 100 t + 10 y + x.
    assert whole[0].flow.values[19, 0, 1, 2] == 1912
    written(pd.concat([table, table.head(1).assign(outflow=-1)]), paths[0])
    with pytest.raises(FlowcastError, match="1 cells twice with other values"):
        open_flow_table(paths[0], CITY)


@pytest.mark.slow
def test_a_small_file_that_holds_much_takes_no_memory(tmp_path: Path) -> None:
    count = 2_000_000  # 160 MB as numbers, and as texts 300 MB more
    zeros = pa.array(np.zeros(count, np.int64))
    times = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(count, np.int32)), pa.array(["2026-01-01T00:00"])
    )
    table = {"time": times} | dict.fromkeys(("y", "x", "inflow", "outflow"), zeros)
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table(table), path, compression="zstd")
    tracemalloc.start()
    with pytest.raises(FlowcastError, match="lacks 5 cells of its 1 slots"):
        open_flow_table(path, CITY)
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()
    table["time"] = pa.array(np.datetime64("1950-01-01", "s") + np.arange(count) % 1000 * HOUR)
    parquet.write_table(pa.table(table), path, compression="zstd")
    with pytest.raises(FlowcastError, match="fewer rows than their 1,048,576 cells"):
        open_flow_table(path, replace(CITY, grid=(1024, 1024)))
    table["time"] = pa.array(["x" * 1_000_000]).take(pa.array(np.zeros(count, np.int32))[:9])
    small = {name: column[:9] for name, column in table.items()}
    parquet.write_table(pa.table(small), path)
    with pytest.raises(FlowcastError, match="a text of more than 64 bytes"):
        open_flow_table(path, CITY)


def test_a_damaged_parquet_file_is_one_sentence_or_a_flow(tmp_path: Path) -> None:
    path = written(rows(["2026-01-01T00:00", "2026-01-01T01:00"]), tmp_path / "x.parquet")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=2):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        with suppress(FlowcastError):
            open_flow_table(path, CITY)


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
