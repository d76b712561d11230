import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.city import City, load_city
from data.errors import FlowcastError
from data.formats.reading import REPAIRS
from data.formats.sandbox.read_in_child import Limits, read_flow_in_child
from data.formats.taxibj import open_taxibj, write_taxibj
from data.formats.taxibj_dates import dates, times

GRID = (2, 3)
HALF_HOUR = np.timedelta64(30, "m")
BEIJING = City("bj-toy", "Beijing", "Asia/Shanghai", HALF_HOUR, GRID)
NEW_YORK = City("ny-toy", "New York", "America/New_York", HALF_HOUR, GRID)
HOURLY = City(
    "nyc-hourly",
    "New York",
    "America/New_York",
    np.timedelta64(1, "h"),
    (16, 8),
    first_slot=0,
    duplicates="sum",
)


def file_with(
    path: Path, labels: list[str] | np.ndarray, vehicles: list[float] | np.ndarray
) -> Path:
    """A file whose slots have the same number of vehicles in all cells."""
    values = np.multiply.outer(np.asarray(vehicles, dtype=float), np.ones((2, *GRID)))
    with h5py.File(path, "w") as file:
        file["data"] = values
        file["date"] = np.asarray(labels, dtype="S") if isinstance(labels, list) else labels
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flow.h5"


def vehicles_of(path: Path, city: City = BEIJING) -> list[float]:
    """The vehicles of the first cell, slot by slot."""
    return open_taxibj(path, city).flow.values[:, 0, 0, 0].tolist()


# What a good file becomes


def test_slot_01_in_beijing_is_16_o_clock_utc_of_the_day_before(path: Path) -> None:
    reading = open_taxibj(file_with(path, ["2013070101", "2013070148"], [1, 2]), BEIJING)
    expected = np.array(["2013-06-30T16:00", "2013-07-01T15:30"], dtype="datetime64[s]")
    assert (reading.flow["time"].values == expected).all()
    assert reading.flow.dtype == np.float32
    assert reading.flow.attrs["city"] == "bj-toy"
    assert (reading.series, reading.repairs) == ("observed", {})


def test_channels_rows_and_columns_keep_their_places(path: Path) -> None:
    values = np.arange(12, dtype="uint16").reshape(1, 2, *GRID)
    write_taxibj(path, values, np.array(["2016-01-01T16:00"], dtype="datetime64[s]"), BEIJING)
    flow = open_taxibj(path, BEIJING).flow
    assert flow.sel(channel="outflow").values.tolist() == [[[6, 7, 8], [9, 10, 11]]]
    assert flow.sel(channel="inflow").values.tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize(
    ("first_slot", "step", "labels"),
    [
        (1, 30, ["2013070101", "2013070148"]),
        (0, 30, ["2013070100", "2013070147"]),
        (0, 60, ["2013070100", "2013070123"]),
        (1, 60, ["2013070101", "2013070124"]),
        (1, 5, ["20130701001", "20130701288"]),
        (0, 5, ["20130701000", "20130701287"]),
        (1, 1440, ["2013070101", "2013070201"]),
    ],
)
def test_slots_count_from_the_citys_first_slot(
    path: Path, first_slot: int, step: int, labels: list[str]
) -> None:
    city = replace(BEIJING, first_slot=first_slot, step=np.timedelta64(step, "m"))
    time = open_taxibj(file_with(path, labels, [1, 2]), city).flow["time"].values
    last = np.datetime64("2013-07-01T16:00") - (0 if step == 1440 else np.timedelta64(step, "m"))
    assert time.tolist() == [pd.Timestamp("2013-06-30T16:00"), pd.Timestamp(last)]
    assert dates(time, city).tolist() == [label.encode() for label in labels]


@pytest.mark.parametrize(
    "labels",
    [
        np.array([b"2013070101", b"2013070102"], dtype="S10"),
        np.array([b"2013070101", b"2013070102 "], dtype="S14"),
        np.array([2013070101, 2013070102], dtype="int64"),
        np.array([2013070101, 2013070102], dtype="uint32"),
        np.array(["2013070101", "2013070102"], dtype=h5py.string_dtype()),
        np.array([b"2013070101", b"2013070102"], dtype=h5py.string_dtype("ascii", 10)),
    ],
    ids=["bytes", "padded", "int64", "uint32", "variable", "fixed"],
)
def test_dates_may_be_bytes_strings_or_integers(path: Path, labels: np.ndarray) -> None:
    assert vehicles_of(file_with(path, labels, [1, 2])) == [1, 2]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64", ">f8"])
@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True}])
def test_any_plain_number_and_packing_is_read(
    path: Path, dtype: str, options: dict[str, object]
) -> None:
    values = np.arange(24).reshape(2, 2, *GRID)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=values.astype(dtype), **options)
        file["date"] = np.array([b"2013070101", b"2013070102"])
    assert (open_taxibj(path, BEIJING).flow.values == values).all()


def test_a_file_of_the_expected_flow_says_so(path: Path) -> None:
    time = np.array(["2016-01-01T16:00"], dtype="datetime64[s]")
    write_taxibj(path, np.ones((1, 2, *GRID)), time, BEIJING, content="expected flow")
    assert open_taxibj(path, BEIJING).series == "expected"


# Writing


def test_a_year_of_new_york_comes_back_as_it_was_written(path: Path) -> None:
    time = np.arange("2016-01-01T05:00", "2017-01-01T05:00", 30, dtype="datetime64[m]")
    values = np.random.default_rng(0).poisson(20, (len(time), 2, *GRID)).astype(np.float32)
    write_taxibj(path, values, time, NEW_YORK)
    reading = open_taxibj(path, NEW_YORK)
    assert len(time) == 366 * 48
    assert (reading.flow["time"].values == time).all()
    assert (reading.flow.values == values).all()
    # 6 November 2016: 01:00 and 01:30 twice; slots 05 and 06 of 13 March were never written
    assert reading.repairs == {"repeated_hour": 4}


@given(
    zone=st.sampled_from(
        ["America/New_York", "Europe/London", "Australia/Lord_Howe", "America/Sao_Paulo"]
    ),
    day=st.dates(pd.Timestamp("2005-01-01").date(), pd.Timestamp("2035-12-31").date()),
    days=st.integers(1, 200),
    minutes=st.sampled_from([5, 15, 30]),
    first_slot=st.sampled_from([0, 1]),
)
def test_dates_of_unbroken_times_are_those_times(
    zone: str, day: object, days: int, minutes: int, first_slot: int
) -> None:
    step = np.timedelta64(minutes, "m")
    city = replace(BEIJING, timezone=zone, step=step, first_slot=first_slot)
    noon = pd.Timestamp(f"{day} 12:00", tz=zone).tz_convert("UTC").tz_localize(None)
    time = noon.to_datetime64().astype("datetime64[s]") + np.arange(days * 1440 // minutes) * step
    assert (times(dates(time, city), city).time == time).all()


def test_a_time_between_two_slots_is_not_written(path: Path) -> None:
    time = np.array(["2016-01-01T16:10"], dtype="datetime64[s]")
    with pytest.raises(FlowcastError, match="not the start of a slot"):
        write_taxibj(path, np.ones((1, 2, *GRID)), time, BEIJING)
    assert not path.exists()


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint16"])
def test_the_file_keeps_the_dtype(path: Path, dtype: str) -> None:
    time = np.array(["2016-01-01T16:00"], dtype="datetime64[s]")
    write_taxibj(path, np.ones((1, 2, *GRID), dtype), time, BEIJING)
    with h5py.File(path) as file:
        assert file["data"].dtype == dtype
        assert file["data"].compression == "gzip"
        assert file["date"][0] == b"2016010201"


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "flow.h5"
    folder.mkdir()
    time = np.array(["2016-01-01T16:00"], dtype="datetime64[s]")
    with pytest.raises(FlowcastError, match="cannot be written"):
        write_taxibj(folder, np.ones((1, 2, *GRID)), time, BEIJING)
    assert list(tmp_path.glob(".flow*")) == []


# Repairs


def test_negative_flow_is_0_and_its_values_are_counted(path: Path) -> None:
    reading = open_taxibj(file_with(path, ["2013070101", "2013070102"], [-3, 5]), BEIJING)
    assert reading.flow.values[:, 0, 0, 0].tolist() == [0, 5]
    assert reading.repairs == {"negative": 12, "empty_kept": 1}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, 1.1e7])
def test_a_slot_with_a_value_that_is_not_finite_is_missing(path: Path, bad: float) -> None:
    reading = open_taxibj(file_with(path, ["2013070101", "2013070102"], [bad, 5]), BEIJING)
    assert reading.flow.values[:, 0, 0, 0].tolist() == [5]
    assert reading.repairs == {"not_finite": 1}


def test_equal_copies_of_a_slot_are_one(path: Path) -> None:
    labels = ["2013070101", "2013070102", "2013070101", "2013070101"]
    reading = open_taxibj(file_with(path, labels, [4, 5, 4, 4]), BEIJING)
    assert reading.flow.values[:, 0, 0, 0].tolist() == [4, 5]
    assert reading.repairs == {"duplicates_equal": 1, "unsorted": 1}


def test_different_copies_of_a_slot_are_refused_with_their_number_and_the_way_out(
    path: Path,
) -> None:
    labels = ["2013070103", "2013070103", "2013070102", "2013070102", "2013070101"]
    with pytest.raises(FlowcastError, match=r"2 slots .* 2013070102; set duplicates = .sum.*TOML"):
        open_taxibj(file_with(path, labels, [1, 2, 3, 4, 5]), BEIJING)


@pytest.mark.parametrize(("rule", "vehicles"), [("sum", 12), ("max", 9), ("last", 3)])
def test_different_copies_are_merged_by_the_citys_rule(
    path: Path, rule: str, vehicles: float
) -> None:
    labels = ["2013070101", "2013070101", "2013070101"]
    reading = open_taxibj(
        file_with(path, labels, [9, 9, 3]), replace(BEIJING, duplicates=rule)
    )  # 9 stands twice and is one record
    assert reading.flow.values[:, 0, 0, 0].tolist() == [vehicles]
    assert reading.repairs == {"duplicates_merged": 1}


def test_copies_are_compared_without_missing_slots_and_negative_values(path: Path) -> None:
    labels = ["2013070101", "2013070101", "2013070102", "2013070102"]
    reading = open_taxibj(file_with(path, labels, [np.nan, 4, -1, 0]), BEIJING)
    assert reading.flow.values[:, 0, 0, 0].tolist() == [4, 0]
    assert reading.repairs == {
        "negative": 12,
        "not_finite": 1,
        "duplicates_equal": 1,
        "empty_kept": 1,
    }


def test_unsorted_slots_are_sorted_and_those_before_an_earlier_one_counted(path: Path) -> None:
    labels = ["2013070101", "2013070104", "2013070105", "2013070102", "2013070103"]
    reading = open_taxibj(file_with(path, labels, [1, 4, 5, 2, 3]), BEIJING)
    assert reading.flow.values[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert reading.repairs == {"unsorted": 2}


def test_local_times_that_clocks_skipped_are_left_out(path: Path) -> None:
    # New York, 13 March 2016: 01:30 EST is 06:30 UTC; 02:00 and 02:30 never were; 03:00 EDT is next
    labels = [f"20160313{slot:02}" for slot in (4, 5, 6, 7)]
    reading = open_taxibj(file_with(path, labels, [1, 2, 3, 4]), NEW_YORK)
    expected = np.array(["2016-03-13T06:30", "2016-03-13T07:00"], dtype="datetime64[s]")
    assert (reading.flow["time"].values == expected).all()
    assert reading.flow.values[:, 0, 0, 0].tolist() == [1, 4]
    assert reading.repairs == {"skipped_hour": 2}


def test_a_local_time_that_stands_twice_is_summer_time_then_winter_time(path: Path) -> None:
    # New York, 6 November 2016: 01:00 EDT is 05:00 UTC, 01:00 EST is 06:00 UTC
    labels = ["2016110603", "2016110604", "2016110603", "2016110604", "2016110605"]
    reading = open_taxibj(file_with(path, labels, [1, 2, 3, 4, 5]), NEW_YORK)
    start = np.datetime64("2016-11-06T05:00", "s")
    assert (reading.flow["time"].values == start + np.arange(5) * HALF_HOUR).all()
    assert reading.flow.values[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert reading.repairs == {"repeated_hour": 4}


def test_a_missing_slot_of_a_repeated_hour_still_keeps_its_place(path: Path) -> None:
    reading = open_taxibj(file_with(path, ["2016110603"] * 2, [np.nan, 3]), NEW_YORK)
    assert reading.flow["time"].values.tolist() == [pd.Timestamp("2016-11-06T06:00")]
    assert reading.repairs == {"repeated_hour": 2, "not_finite": 1}


def test_a_repeated_local_time_that_stands_once_is_the_first(path: Path) -> None:
    reading = open_taxibj(file_with(path, ["2016110603", "2016110605"], [1, 2]), NEW_YORK)
    expected = np.array(["2016-11-06T05:00", "2016-11-06T07:00"], dtype="datetime64[s]")
    assert (reading.flow["time"].values == expected).all()
    assert reading.repairs == {"repeated_hour": 1}


def test_a_repeated_local_time_that_stands_three_times_is_copies_of_the_first(path: Path) -> None:
    with pytest.raises(FlowcastError, match=r"1 slots .* 2016110603"):
        open_taxibj(file_with(path, ["2016110603"] * 3, [1, 2, 3]), NEW_YORK)
    reading = open_taxibj(path, replace(NEW_YORK, duplicates="max"))
    assert reading.flow["time"].values.tolist() == [pd.Timestamp("2016-11-06T05:00")]
    assert reading.repairs == {"repeated_hour": 3, "duplicates_merged": 1}


def test_a_slot_without_a_vehicle_is_kept_or_missing_as_the_city_says(path: Path) -> None:
    file_with(path, ["2013070101", "2013070102"], [0, 5])
    assert vehicles_of(path) == [0, 5]
    assert open_taxibj(path, BEIJING).repairs == {"empty_kept": 1}
    missing = open_taxibj(path, replace(BEIJING, empty="missing"))
    assert missing.flow.values[:, 0, 0, 0].tolist() == [5]
    assert missing.repairs == {"empty_dropped": 1}


def test_whether_a_slot_is_empty_is_decided_after_its_copies_are_merged(path: Path) -> None:
    file_with(path, ["2013070101", "2013070101"], [0, 5])
    reading = open_taxibj(path, replace(BEIJING, empty="missing", duplicates="sum"))
    assert reading.flow.values[:, 0, 0, 0].tolist() == [5]
    assert reading.repairs == {"duplicates_merged": 1}


def test_every_repair_has_a_sentence() -> None:
    assert {
        "negative",
        "not_finite",
        "skipped_hour",
        "repeated_hour",
        "unsorted",
        "duplicates_equal",
        "duplicates_merged",
        "empty_kept",
        "empty_dropped",
        *("missing", "trace", "no_numbers", "duplicates_last"),  # of weather
    } == set(REPAIRS)


# Real files


def test_new_york_2016_lacks_only_the_hour_that_clocks_skipped(real_data: Path) -> None:
    path = real_data / "nyc-taxi" / "NYC16_M16x12_T30_InOut.h5"
    reading = open_taxibj(path, load_city("nyc"))
    assert reading.flow.sizes["time"] == 4320 - 2
    assert reading.repairs == {"skipped_hour": 2}
    assert reading.flow["time"].values[0] == np.datetime64("2016-01-01T05:00")
    assert reading.flow["time"].values[-1] == np.datetime64("2016-03-31T03:30")
    assert float(reading.flow.max()) == 1518


@pytest.mark.parametrize(
    ("year", "slots", "copies"),
    [("10", 8112, 48), ("11", 8136, 72), ("12", 8136, 48), ("13", 8352, 288)],
)
def test_new_york_by_the_hour_keeps_every_vehicle_when_copies_are_summed(
    real_data: Path, year: str, slots: int, copies: int
) -> None:
    path = real_data / "nyc-taxi-hourly" / f"NYC{year}_Taxi_M16x8_T60_InOut.h5"
    reading = open_taxibj(path, HOURLY)
    with h5py.File(path) as file:
        values, labels = file["data"][:], file["date"][:]
    second_sunday = {"10": "0314", "11": "0313", "12": "0311", "13": "0310"}[year]
    skipped = labels == f"20{year}{second_sunday}02".encode()
    assert reading.repairs["duplicates_merged"] == copies
    assert reading.repairs["skipped_hour"] == skipped.sum() == 1
    assert reading.flow.sizes["time"] == slots - copies - 1
    total = float(reading.flow.sum(dtype=float))
    assert total == pytest.approx(values[~skipped].sum(), rel=1e-6)


# Refusals


def with_data(**options: object) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("data", **options)
            file["date"] = np.array([b"2013070101", b"2013070102"])

    return build


def with_dates(labels: object) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["data"] = np.ones((2, 2, *GRID))
            file["date"] = labels

    return build


def text(path: Path) -> None:
    path.write_text("date,inflow,outflow\n")


def empty_file(path: Path) -> None:
    path.touch()


def truncated(path: Path) -> None:
    time = np.arange("2016-01-01T16:00", "2016-01-09T16:00", 30, dtype="datetime64[m]")
    values = np.random.default_rng(0).random((len(time), 2, *GRID))
    write_taxibj(path, values, time, BEIJING)
    path.write_bytes(path.read_bytes()[:9000])


def no_date(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((2, 2, *GRID))


def group(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("data")
        file["date"] = np.array([b"2013070101", b"2013070102"])


def no_slots(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((0, 2, *GRID))
        file["date"] = np.zeros(0, dtype="S10")


def external_storage(path: Path) -> None:
    secret = path.with_name("secret.bin")
    secret.write_bytes(np.ones((2, 2, *GRID)).tobytes())
    shape = (2, 2, *GRID)
    with_data(shape=shape, dtype="f8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])(path)


def virtual(path: Path) -> None:
    other = file_with(path.with_name("other.h5"), ["2013070101", "2013070102"], [1, 2])
    layout = h5py.VirtualLayout((2, 2, *GRID), dtype="f8")
    layout[:] = h5py.VirtualSource(other, "data", (2, 2, *GRID))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)
        file["date"] = np.array([b"2013070101", b"2013070102"])


def external_link(path: Path) -> None:
    other = file_with(path.with_name("other.h5"), ["2013070101", "2013070102"], [1, 2])
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink(str(other), "/data")
        file["date"] = np.array([b"2013070101", b"2013070102"])


def soft_link(path: Path) -> None:
    file_with(path, ["2013070101", "2013070102"], [1, 2])
    with h5py.File(path, "a") as file:
        file.move("date", "elsewhere")
        file["date"] = h5py.SoftLink("/elsewhere")


def unknown_filter(path: Path) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1, 2, *GRID))
    properties.set_filter(32_767, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((2, 2, *GRID))
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_DOUBLE, space, properties)
        file["data"][:] = 1
        file["date"] = np.array([b"2013070101", b"2013070102"])


ONES = np.ones((2, 2, *GRID))
REFUSED = {
    "text": (text, "no HDF5 file"),
    "nothing in it": (empty_file, "no HDF5 file"),
    "truncated": (truncated, "not whole"),
    "no date": (no_date, "no dataset 'date'"),
    "a group": (group, "group in place of the dataset 'data'"),
    "no slots": (no_slots, "no slot at all"),
    "no shape": (with_data(data=h5py.Empty("f4")), "nothing in its dataset 'data'"),
    "rank 3": (with_data(data=ONES[:, 0]), r"shape \(2, 2, 3\) in place of"),
    "3 channels": (with_data(data=np.ones((2, 3, *GRID))), r"shape \(2, 3, 2, 3\) in place of"),
    "another grid": (with_data(data=np.ones((2, 2, 5, 4))), r"set grid = \[5, 4\]"),
    "complex": (with_data(data=ONES + 1j), "dtype complex128"),
    "compound": (
        with_data(data=np.zeros(ONES.shape, [("vehicles", "f4"), ("weight", "f4")])),
        "in place of integers or floats",
    ),
    "text as data": (with_data(data=ONES.astype("S3")), r"dtype \|S3"),
    "never written": (with_data(shape=ONES.shape, dtype="f4"), "declares data but holds none"),
    "chunks never written": (
        with_data(shape=ONES.shape, dtype="f4", chunks=(1, 2, *GRID)),
        "0 of the 2 chunks",
    ),
    "giant chunks": (
        with_data(
            shape=ONES.shape, dtype="f8", chunks=(2**24, 2, *GRID), maxshape=(None, 2, *GRID)
        ),
        "chunks of .* smaller ones",
    ),
    "3 dates": (with_dates([b"2013070101"] * 3), r"shape \(3,\) for 2 slots"),
    "float dates": (with_dates([2013070101.0, 2013070102.0]), "dtype float64"),
    "long dates": (with_dates(np.array([b"2013070101", b"1" * 99])), "dates of 99 bytes"),
    "long strings": (with_dates(["2013070101", "1" * 99]), "date of 99 bytes"),
    "short dates": (with_dates([b"2013070101", b"20130702"]), "'20130702', cannot be read"),
    "letters": (with_dates([b"2013070101", b"2013-07-02"]), "1 of 2 dates"),
    "negative": (with_dates(np.array([2013070101, -201307010])), "'-201307010', cannot be read"),
    "30 February": (with_dates([b"2013022801", b"2013023001"]), "'2013023001', cannot be read"),
    "29 February": (with_dates([b"2013022801", b"2013022901"]), "'2013022901', cannot be read"),
    "month 13": (with_dates([b"2013022801", b"2013130101"]), "'2013130101', cannot be read"),
    "day 0": (with_dates([b"2013020001", b"2013020101"]), "'2013020001', cannot be read"),
    "year 0": (with_dates([b"0000020101", b"2013020101"]), "'0000020101', cannot be read"),
    "slot 00": (with_dates([b"2013070100", b"2013070101"]), r"01\.\.48; set first_slot = 0"),
    "slot 49": (with_dates([b"2013070101", b"2013070149"]), r"01\.\.48; check step"),
    "slots 00 and 48": (with_dates([b"2013070100", b"2013070148"]), "check step and first_slot"),
    "external storage": (external_storage, "keeps 'data' in another file"),
    "virtual": (virtual, "makes 'data' out of other datasets"),
    "external link": (external_link, "link in place of 'data'"),
    "soft link": (soft_link, "link in place of 'date'"),
    "unknown filter": (unknown_filter, "unknown filter 32767"),
}


@pytest.mark.parametrize(("build", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_a_file_that_cannot_be_trusted_is_refused_with_its_name_and_a_sentence(
    path: Path, build: Callable[[Path], None], sentence: str
) -> None:
    build(path)
    with pytest.raises(FlowcastError, match=sentence) as refusal:
        open_taxibj(path, BEIJING)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_counts_from_1_says_so_to_a_city_that_counts_from_0(path: Path) -> None:
    file_with(path, ["2013070101", "2013070148"], [1, 2])
    with pytest.raises(FlowcastError, match=r"00\.\.47; set first_slot = 1"):
        open_taxibj(path, replace(BEIJING, first_slot=0))


def test_a_missing_file_and_a_pipe_are_no_files(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.h5"
    os.mkfifo(pipe)
    for path in (tmp_path / "none.h5", tmp_path, pipe):
        with pytest.raises(FlowcastError, match="is no file"):
            open_taxibj(path, BEIJING)


def test_a_file_without_a_usable_slot_is_refused(path: Path) -> None:
    file_with(path, ["2013070101", "2013070102"], [np.nan, np.inf])
    with pytest.raises(FlowcastError, match="none of 2 slots can be used: 2 have NaN"):
        open_taxibj(path, BEIJING)
    file_with(path, ["2013070101", "2013070102"], [0, 0])
    with pytest.raises(FlowcastError, match=r"all of 2 slots .* set empty"):
        open_taxibj(path, replace(BEIJING, empty="missing"))


def test_a_small_file_that_declares_15_gib_is_refused_by_its_declaration(path: Path) -> None:
    slots = 15 * 2**30 // (4 * 2 * 32 * 32)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (slots, 2, 32, 32), "f4", chunks=(64, 2, 32, 32))
        file.create_dataset("date", (slots,), "S10", chunks=(4096,))
    assert path.stat().st_size < 21_000
    with pytest.raises(FlowcastError, match=r"slots of 15 GiB, .* or 2 GiB; split it by years"):
        open_taxibj(path, replace(BEIJING, grid=(32, 32)))


def test_more_slots_than_a_century_has_are_refused(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (20_000_000, 2, 1, 1), "u1", chunks=(64, 2, 1, 1))
        file.create_dataset("date", (20_000_000,), "S10", chunks=(4096,))
    with pytest.raises(FlowcastError, match="more than 10,000,000 slots"):
        open_taxibj(path, replace(BEIJING, grid=(1, 1)))


def test_a_chunk_that_unpacks_to_more_than_the_memory_ends_only_the_child(path: Path) -> None:
    packer = zlib.compressobj(1)
    bomb = b"".join(packer.compress(bytes(2**25)) for _ in range(8)) + packer.flush()
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "data", (1, 2, *GRID), "f8", chunks=(1, 2, *GRID), compression="gzip"
        )
        data.id.write_direct_chunk((0, 0, 0, 0), bomb)
        file["date"] = np.array([b"2013070101"])
    with pytest.raises(FlowcastError, match="could not be read"):
        read_flow_in_child(path, GRID, Limits(memory=300 * 2**20))


def test_a_child_that_takes_too_long_or_too_much_is_ended(path: Path) -> None:
    file_with(path, ["2013070101"], [1])
    with pytest.raises(FlowcastError, match=r"within 3 GiB and 0.01 s .out of time"):
        read_flow_in_child(path, GRID, Limits(seconds=0.01))
    with pytest.raises(FlowcastError, match="could not be read"):
        read_flow_in_child(path, GRID, Limits(memory=2**20))


@pytest.mark.slow
def test_a_damaged_file_is_a_reading_or_a_sentence_never_a_crash(path: Path) -> None:
    time = np.arange("2016-01-01T16:00", "2016-01-02T16:00", 30, dtype="datetime64[m]")
    write_taxibj(path, np.ones((len(time), 2, *GRID)), time, BEIJING)
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(12):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 40)] = rng.integers(0, 256, 40)
        path.write_bytes(damaged.tobytes())
        try:
            open_taxibj(path, BEIJING)
        except FlowcastError as refusal:
            refused += 1
            assert str(path) in str(refusal)
    assert refused > 0
