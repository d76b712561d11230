import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import xarray as xr
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext

from data.city import City
from data.errors import FlowcastError, StoreError
from data.flow import label
from data.intervals import intervals_of, with_intervals, without_intervals
from data.store.database import Database
from data.store.ingests import Added, Source
from data.store.messages import sentences
from data.store.migrations import scripts
from data.store.schema import FLOW, METADATA, SCHEMA
from data.store.store import Store

HALF_HOUR = np.timedelta64(1800, "s")
START = np.datetime64("2016-01-01T00:00", "s")
CITY = City("toy", "Toy", "Asia/Shanghai", HALF_HOUR, (4, 3))
FILE = Source("toy16.h5", "0" * 64)


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


@pytest.fixture
def path(flowcast_home: Path) -> Path:
    """The file of the database."""
    return flowcast_home / "flowcast.db"


def flow_at(slots: np.ndarray | range, seed: int = 0, city: City = CITY) -> xr.DataArray:
    """A flow with slots at these steps from the start, all float32 that a file can hold."""
    rng = np.random.default_rng(seed)
    values = rng.random((len(slots), 2, *city.grid), dtype=np.float32) * 1e4
    return label(values, START + np.asarray(slots) * city.step, city)


# Flow


def test_a_flow_with_gaps_comes_back_byte_for_byte(store: Store) -> None:
    flow = flow_at(np.r_[0:48, 60:70, 5000])
    flow[3] = 0
    flow[4] = np.float32(1e-45)  # the smallest float32, and the largest
    flow[5] = np.finfo(np.float32).max
    assert store.flow.add(CITY, flow, source=FILE) == Added(59, 0, 0)
    stored = store.flow.read(CITY)
    assert stored.identical(flow)
    assert stored.values.tobytes() == flow.values.tobytes()


def test_a_part_of_the_archive_is_what_lies_from_first_to_last(store: Store) -> None:
    flow = flow_at(np.r_[0:48, 60:70])
    store.flow.add(CITY, flow, source=FILE)
    part = store.flow.read(CITY, first=START + 47 * HALF_HOUR, last=START + 61 * HALF_HOUR)
    assert part.identical(flow[47:50])
    assert store.flow.read(CITY, first=START + 65 * HALF_HOUR).identical(flow[53:])
    assert store.flow.read(CITY, last=START).identical(flow[:1])
    assert (
        store.flow.read(CITY, first=START + 48 * HALF_HOUR, last=START + 59 * HALF_HOUR).size == 0
    )


def test_the_times_are_those_of_the_flow(store: Store) -> None:
    flow = flow_at(np.r_[0:48, 60:70])
    store.flow.add(CITY, flow, source=FILE)
    store.flow.add(CITY, flow_at(range(3)), source=FILE, series="expected")
    times = store.flow.times(CITY)
    assert times["time"].identical(flow["time"].drop_attrs())
    assert (times.values == flow["time"].values).all()
    assert times.attrs == flow.attrs
    assert store.flow.times(CITY, "expected").sizes["time"] == 3
    assert store.flow.times(replace(CITY, name="other")).size == 0


def test_the_span_is_the_first_and_the_newest_slot(store: Store) -> None:
    assert store.flow.span(CITY) is None
    store.flow.add(CITY, flow_at(np.r_[2:48, 60:70]), source=FILE)
    at = [START + slot * HALF_HOUR for slot in (2, 47, 59, 69)]
    assert store.flow.span(CITY) == (at[0], at[3])
    assert store.flow.span(CITY, last=at[2]) == (at[0], at[1])
    assert store.flow.span(CITY, last=START) is None


def test_the_pieces_make_the_archive(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flow_at(np.r_[0:48, 60:70])
    store.flow.add(CITY, flow, source=FILE)
    monkeypatch.setattr("data.store.flow.CHUNK_BYTES", 10 * flow[0].nbytes)
    pieces = list(store.flow.chunks(CITY))
    assert [piece.sizes["time"] for piece in pieces] == [10, 10, 10, 10, 10, 8]
    assert xr.concat(pieces, "time").identical(flow)
    last = flow["time"].values[24]
    assert xr.concat(list(store.flow.chunks(CITY, last=last)), "time").identical(flow[:25])


def test_it_is_still_there_when_the_database_is_opened_again(store: Store) -> None:
    flow = flow_at(range(48))
    store.flow.add(CITY, flow, source=FILE)
    store.close()
    assert Store().flow.read(CITY).identical(flow)


def test_slots_come_in_the_order_of_time_whatever_order_the_files_had(store: Store) -> None:
    later, earlier = flow_at(range(48, 96), seed=1), flow_at(range(48), seed=2)
    store.flow.add(CITY, later, source=FILE)
    store.flow.add(CITY, earlier, source=FILE)
    assert store.flow.read(CITY).identical(xr.concat([earlier, later], "time"))


def test_an_empty_archive_is_an_empty_flow(store: Store) -> None:
    assert store.flow.read(CITY).shape == (0, 2, 4, 3)
    assert store.ingests.table(CITY).empty
    assert store.flow.revisions(CITY).empty
    assert store.promotions.table(CITY).empty


def test_the_expected_flow_stands_beside_the_observed(store: Store) -> None:
    observed, expected = flow_at(range(48), seed=1), flow_at(range(48), seed=2)
    store.flow.add(CITY, observed, source=FILE)
    store.flow.add(CITY, expected, source=FILE, series="expected")
    assert store.flow.read(CITY).identical(observed)
    assert store.flow.read(CITY, "expected").identical(expected)


def test_each_city_has_an_archive_of_its_own(store: Store) -> None:
    other = replace(CITY, name="other", grid=(2, 2))
    store.flow.add(CITY, flow_at(range(3)), source=FILE)
    store.flow.add(other, flow_at(range(5), city=other), source=FILE)
    assert store.flow.read(CITY).shape == (3, 2, 4, 3)
    assert store.flow.read(other).shape == (5, 2, 2, 2)
    assert len(store.ingests.table(CITY)) == 1


def test_the_same_flow_again_changes_nothing(store: Store) -> None:
    flow = flow_at(range(48))
    store.flow.add(CITY, flow, source=FILE)
    assert store.flow.add(CITY, flow, source=FILE) == Added(0, 48, 0)
    assert store.flow.add(CITY, flow, source=FILE, replace=True) == Added(0, 48, 0)
    assert store.flow.read(CITY).identical(flow)
    assert store.flow.revisions(CITY).empty


def test_a_file_that_overlaps_adds_only_what_is_new(store: Store) -> None:
    flow = flow_at(range(96))
    store.flow.add(CITY, flow[:60], source=FILE)
    assert store.flow.add(CITY, flow[40:], source=FILE) == Added(36, 20, 0)
    assert store.flow.read(CITY).identical(flow)


def test_slots_stored_with_other_values_refuse_the_whole_file(store: Store) -> None:
    flow = flow_at(range(48))
    store.flow.add(CITY, flow, source=FILE)
    changed = flow_at(range(96), seed=1)
    changed[:48] = flow.values
    changed[[20, 30], 1, 3, 2] += 1
    with pytest.raises(FlowcastError) as refused:
        store.flow.add(CITY, changed, source=FILE)
    # slot 20 begins at 10:00 UTC, 18:00 in Shanghai
    assert str(refused.value).startswith(
        "toy16.h5: 2 slots are stored with other values, the first 2016-01-01 18:00; nothing was stored"
    )
    assert "--replace" in str(refused.value)
    assert store.flow.read(CITY).identical(flow)
    assert len(store.ingests.table(CITY)) == 1


def test_replacing_keeps_every_old_value_as_a_revision(store: Store) -> None:
    first, second, third = (flow_at(range(48), seed=seed) for seed in range(3))
    second[4:] = first[4:].values
    third[1:] = second[1:].values
    store.flow.add(CITY, first, source=FILE)
    assert store.flow.add(CITY, second, source=FILE, replace=True) == Added(0, 44, 4)
    assert store.flow.add(CITY, third, source=FILE, replace=True) == Added(0, 47, 1)
    assert store.flow.read(CITY).identical(third)
    revisions = store.flow.revisions(CITY)
    was = [first[0], first[1], first[2], first[3], second[0]]
    assert (revisions["time"] == [slot["time"].values for slot in was]).all()
    for frame, slot in zip(revisions["frame"], was, strict=True):
        assert (frame == slot.values).all()
    assert revisions["ingest"].tolist() == [1, 1, 1, 1, 2]
    assert revisions["replaced_by"].tolist() == [2, 2, 2, 2, 3]


def test_replacing_in_one_series_leaves_the_other(store: Store) -> None:
    observed, expected, new = (flow_at(range(4), seed=seed) for seed in range(3))
    store.flow.add(CITY, observed, source=FILE)
    store.flow.add(CITY, expected, source=FILE, series="expected")
    store.flow.add(CITY, new, source=FILE, series="expected", replace=True)
    assert store.flow.read(CITY).identical(observed)
    assert store.flow.read(CITY, "expected").identical(new)
    assert set(store.flow.revisions(CITY)["series"]) == {"expected"}


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"grid": (3, 4)}, "rows 4, but its TOML says 3"),
        ({"grid": (4, 5)}, "columns 3, but its TOML says 5"),
        ({"step": np.timedelta64(3600, "s")}, "step 1800, but its TOML says 3600"),
        ({"timezone": "Asia/Tokyo"}, "timezone Asia/Shanghai, but its TOML says Asia/Tokyo"),
    ],
)
def test_an_archive_made_otherwise_is_one_sentence(
    store: Store, other: dict[str, object], named: str
) -> None:
    flow = flow_at(range(48))
    store.flow.add(CITY, flow, source=FILE)
    city = replace(CITY, **other)
    for use in (
        lambda: store.flow.read(city),
        lambda: store.flow.add(city, flow_at(range(48, 50), city=city), source=FILE),
    ):
        with pytest.raises(FlowcastError, match=f"the archive of toy was made with {named}"):
            use()
    assert store.flow.read(CITY).identical(flow)


def test_the_ledger_tells_every_file_in_order(store: Store) -> None:
    flow = flow_at(range(48))
    store.flow.add(CITY, flow, source=Source("a.h5", "aa"), repairs={"negative": 3, "unsorted": 1})
    store.ingests.add_refusal(CITY, Source("b.h5", "bb"), "b.h5 is no HDF5 file")
    store.flow.add(CITY, flow, source=Source("a.h5", "aa"))
    ledger = store.ingests.table(CITY)
    assert ledger["source"].tolist() == ["a.h5", "b.h5", "a.h5"]
    assert ledger["sha256"].tolist() == ["aa", "bb", "aa"]
    assert ledger["outcome"].tolist() == ["stored", "refused", "stored"]
    assert ledger["added"].tolist() == [48, 0, 0]
    assert ledger["equal"].tolist() == [0, 0, 48]
    assert ledger["repairs"].tolist() == [{"negative": 3, "unsorted": 1}, {}, {}]
    assert ledger["message"].tolist() == ["", "b.h5 is no HDF5 file", ""]
    age = np.datetime64("now") - ledger["at"].to_numpy()
    assert (age < np.timedelta64(60, "s")).all()


# Forecasts and promotions


def forecast_at(slot: int, seed: int = 0, horizon: int = 4) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    init_time = START + np.array([slot]) * HALF_HOUR
    leads = np.arange(1, horizon + 1) * HALF_HOUR
    return xr.DataArray(
        rng.random((1, horizon, 2, 4, 3), dtype=np.float32),
        dims=("init_time", "lead_time", "channel", "y", "x"),
        coords={
            "init_time": init_time,
            "lead_time": leads,
            "channel": ["inflow", "outflow"],
            "valid_time": (("init_time", "lead_time"), init_time[:, None] + leads),
        },
        name="flow",
        attrs={"city": "toy", "step": 1800, "forecaster": "swinlstm", "notes": "Zürich\nüber"},
    )


def test_a_forecast_comes_back_as_it_was_stored(store: Store) -> None:
    forecast = forecast_at(100, horizon=7)
    store.forecasts.add(CITY, forecast)
    stored = store.forecasts.newest(CITY)
    assert stored is not None
    assert stored.identical(forecast)


def test_the_newest_forecast_counts(store: Store) -> None:
    forecasts = [forecast_at(slot, seed) for seed, slot in enumerate((100, 102, 101, 101))]
    numbers = [store.forecasts.add(CITY, forecast) for forecast in forecasts]
    assert len(set(numbers)) == 4
    assert forecasts[1].identical(store.forecasts.newest(CITY))
    assert forecasts[3].identical(store.forecasts.newest(CITY, START + 101 * HALF_HOUR))
    assert store.forecasts.newest(CITY, START + 99 * HALF_HOUR) is None
    assert store.forecasts.newest(replace(CITY, name="other")) is None


def test_bands_come_back_to_a_thousandth_and_the_forecast_exactly(store: Store) -> None:
    forecast = forecast_at(100, horizon=3)
    values = np.random.default_rng(1).gamma(1, 300, (3, 2, *forecast.shape)).astype(np.float32)
    store.forecasts.add(CITY, with_intervals(forecast, values))
    stored = store.forecasts.newest(CITY)
    assert stored is not None
    assert without_intervals(stored).identical(forecast)
    around = intervals_of(stored)
    assert around is not None
    np.testing.assert_allclose(around.values, values, rtol=1e-3)


def test_the_forecasts_of_a_span_come_in_the_order_of_time(store: Store) -> None:
    forecasts = [forecast_at(slot, seed) for seed, slot in enumerate((100, 102, 101, 101, 103))]
    for forecast in forecasts:
        store.forecasts.add(CITY, forecast)
    found = list(store.forecasts.between(CITY, START + 100 * HALF_HOUR, START + 102 * HALF_HOUR))
    assert all(one.identical(forecasts[row]) for one, row in zip(found, (2, 3, 1), strict=True))
    assert not list(
        store.forecasts.between(replace(CITY, name="other"), START, START + 200 * HALF_HOUR)
    )


def test_how_the_bands_of_a_version_stand_is_replaced(store: Store) -> None:
    assert store.calibrations.read(CITY, "v1") is None
    store.calibrations.add(CITY, "v1", START, b"one")
    store.calibrations.add(CITY, "v2", START, b"other")
    store.calibrations.add(CITY, "v1", START + HALF_HOUR, b"two")
    assert store.calibrations.read(CITY, "v1") == (START + HALF_HOUR, b"two")
    assert store.calibrations.read(CITY, "v2") == (START, b"other")
    assert store.calibrations.read(replace(CITY, name="other"), "v1") is None


def test_a_stack_of_two_is_not_one_forecast(store: Store) -> None:
    with pytest.raises(ValueError, match="one forecast at a time"):
        store.forecasts.add(CITY, xr.concat([forecast_at(1), forecast_at(2)], "init_time"))


def test_the_champion_is_the_version_promoted_last(store: Store) -> None:
    assert store.promotions.champion(CITY) is None
    for version, reason in (("v1", "first"), ("v2", "better"), ("v1", "rolled back")):
        store.promotions.promote(CITY, version, reason)
    store.promotions.promote(replace(CITY, name="other"), "v9", "first")
    assert store.promotions.champion(CITY) == "v1"
    promotions = store.promotions.table(CITY)
    assert promotions["version"].tolist() == ["v1", "v2", "v1"]
    assert promotions["reason"].tolist() == ["first", "better", "rolled back"]


# Schema


def test_the_tables_are_those_that_the_migrations_make(store: Store, path: Path) -> None:
    with sa.create_engine(f"sqlite:///{path}").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_store_that_is_replaced_is_opened_anew_and_one_that_is_gone_is_told(
    on_sqlite: None, flowcast_home: Path
) -> None:
    store, path = Store(), flowcast_home / "flowcast.db"
    store.promotions.promote(CITY, "v1", "first")
    for one in flowcast_home.glob("flowcast.db*"):
        one.rename(one.with_name(f"former-{one.name}"))
    with pytest.raises(StoreError, match="is gone; put it back"):
        store.promotions.champion(CITY)
    other = Store()
    other.promotions.promote(CITY, "v2", "anew")
    assert store.promotions.champion(CITY) == "v2"
    store.promotions.promote(CITY, "v3", "by the first one")
    assert other.promotions.champion(CITY) == "v3" and path.exists()


def test_the_schema_is_the_newest_revision() -> None:
    assert scripts().get_heads() == [SCHEMA]


def test_a_store_from_before_the_bands_keeps_all_that_it_held(path: Path) -> None:
    path.parent.mkdir()
    known, frames = scripts(), np.arange(48, dtype="<f4").reshape(1, 2, 2, 4, 3)
    with sa.create_engine(f"sqlite:///{path}").begin() as connection:
        environment = EnvironmentContext(Config(), known)
        environment.configure(
            connection=connection,
            fn=lambda current, context: known._upgrade_revs("0002", current),
            transactional_ddl=False,
        )
        environment.run_migrations()
        row = {"at": int((START - np.datetime64(0, "s")).astype(int)), "frames": frames.tobytes()}
        connection.execute(
            sa.text(
                "INSERT INTO forecast (city, init_time, created_at, horizon, forecaster, attributes,"
                " frames) VALUES ('toy', :at, 1, 2, 'swinlstm', '{\"notes\": \"old\"}', :frames)"
            ),
            row,
        )
    store = Store()
    old = store.forecasts.newest(CITY)
    assert old is not None
    assert (old.attrs, old["init_time"].values[0]) == ({"notes": "old"}, START)
    np.testing.assert_array_equal(old.values, frames)
    assert intervals_of(old) is None
    store.forecasts.add(
        CITY, with_intervals(forecast_at(3), np.ones((3, 2, *forecast_at(3).shape)))
    )
    newest = store.forecasts.newest(CITY)
    assert newest is not None
    assert intervals_of(newest) is not None


def test_a_store_that_a_newer_version_changes_while_it_is_open_is_told(database: str) -> None:
    store = Store()
    with store._database.write() as connection:
        connection.execute(sa.text("ALTER TABLE promotion RENAME TO promotion_of_later"))
    with pytest.raises(StoreError, match="a newer one may have changed it"):
        store.promotions.champion(CITY)
    store.close()


def test_a_database_of_a_newer_version_is_left_alone(store: Store, path: Path) -> None:
    store.flow.add(CITY, flow_at(range(3)), source=FILE)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match="schema 9999, which this version of flowcast does not know"
    ):
        Store()
    assert path.read_bytes() == before


def test_a_home_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "50%41 of? what=#ö"
    monkeypatch.setenv("FLOWCAST_HOME", str(home))
    Store().flow.add(CITY, flow_at(range(3)), source=FILE)
    assert Store().flow.read(CITY).sizes["time"] == 3
    assert (home / "flowcast.db").is_file()


# Many at once

TWO_AT_ONCE = """
import os, sys
import numpy as np
import data.store.migrations
from data.city import City
from data.flow import label
from data.store.ingests import Source
from data.store.store import Store

city = City("toy", "Toy", "Asia/Shanghai", np.timedelta64(1800, "s"), (4, 3))
start = np.datetime64("2016-01-01T00:00", "s")

def write(half):
    store = Store()
    for part in range(5):
        slots = 100 * (2 * part + half) + np.arange(100)
        values = np.broadcast_to(slots[:, None, None, None], (100, 2, 4, 3))
        store.flow.add(city, label(values, start + slots * city.step, city), source=Source("", ""))

for home in sys.argv[1:]:
    os.environ["FLOWCAST_HOME"] = home
    children = []
    for half in (0, 1):
        children.append(os.fork())
        if not children[-1]:
            write(half)
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""


@pytest.mark.slow
def test_two_processes_make_a_home_and_write_at_once_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [tmp_path / f"home{number}" for number in range(20)]
    command = [sys.executable, "-c", TWO_AT_ONCE, *map(str, homes)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr
    for home in homes:
        monkeypatch.setenv("FLOWCAST_HOME", str(home))
        flow = Store().flow.read(CITY)
        assert (flow.values == np.arange(1000)[:, None, None, None]).all()
        assert (flow["time"].values == START + np.arange(1000) * HALF_HOUR).all()


def test_opening_waits_for_another_process_that_makes_the_database(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, other.rollback)
    release.start()
    Store().promotions.promote(CITY, "v1", "first")
    release.join()
    other.close()


def test_a_reader_beside_a_writer_sees_the_old_state_until_it_is_whole(
    store: Store, path: Path
) -> None:
    flow = flow_at(range(48))
    store.flow.add(CITY, flow, source=FILE)
    database = Database(f"sqlite:///{path}")
    with database.write() as connection:
        connection.execute(sa.delete(FLOW).where(FLOW.c.time > 0))
        assert store.flow.read(CITY).identical(flow)
    assert store.flow.read(CITY).sizes["time"] == 0


def test_a_reader_sees_one_state_throughout(store: Store, path: Path) -> None:
    store.flow.add(CITY, flow_at(range(48)), source=FILE)
    count = sa.select(sa.func.count()).select_from(FLOW)
    with Database(f"sqlite:///{path}").read() as connection:
        assert connection.execute(count).scalar() == 48
        store.flow.add(CITY, flow_at(range(48, 60)), source=FILE)
        assert connection.execute(count).scalar() == 48
    assert store.flow.read(CITY).sizes["time"] == 60


def test_an_error_in_a_transaction_leaves_nothing_of_it(store: Store, path: Path) -> None:
    store.flow.add(CITY, flow_at(range(48)), source=FILE)
    with pytest.raises(KeyboardInterrupt), Database(f"sqlite:///{path}").write() as connection:
        connection.execute(sa.delete(FLOW))
        raise KeyboardInterrupt
    assert store.flow.read(CITY).sizes["time"] == 48


def test_a_writer_that_waited_too_long_says_who_is_in_the_way(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.store.database.PATIENCE", 0)
    impatient = Store()
    with (
        Database(f"sqlite:///{path}").write(),
        pytest.raises(StoreError, match=r"another process has held .*flowcast\.db"),
    ):
        impatient.promotions.promote(CITY, "v1", "first")
    impatient.promotions.promote(CITY, "v1", "first")


def test_sqlite_logs_ahead_and_syncs_every_commit(store: Store, path: Path) -> None:
    with Database(f"sqlite:///{path}").read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    # https://www.sqlite.org/pragma.html#pragma_synchronous: FULL is 2
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


# What can be in the way


@pytest.fixture
def few_pages() -> Iterator[None]:
    """SQLite databases may not grow past 100 pages, as if the disk were full."""

    def limit(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA max_page_count = 100")

    sa.event.listen(sa.Engine, "connect", limit)
    yield
    sa.event.remove(sa.Engine, "connect", limit)


def fill(store: Store) -> str:
    """What a store says that has no room for 3000 slots, none of which it then holds."""
    flow = flow_at(range(48))
    store.flow.add(CITY, flow, source=FILE)
    with pytest.raises(StoreError) as refused:
        store.flow.add(CITY, flow_at(range(48, 3048)), source=FILE)
    assert store.flow.read(CITY).identical(flow)
    assert len(store.ingests.table(CITY)) == 1
    later = flow_at(range(48, 50))
    assert store.flow.add(CITY, later, source=FILE) == Added(2, 0, 0)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_full_disk_is_one_sentence_and_leaves_the_archive(few_pages: None, path: Path) -> None:
    assert f"no space is left for {path}; nothing was written" in fill(Store())


def test_a_file_that_cannot_grow_is_one_sentence_and_leaves_the_archive(
    store: Store, small_files: None, path: Path
) -> None:
    assert f"{path} could not be read or written" in fill(store)


def test_a_text_in_the_place_of_the_database_is_one_sentence(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("Dear diary, today the traffic was bad.\n" * 100)
    with pytest.raises(StoreError, match=r"flowcast\.db is not a flowcast database; move it away"):
        Store()
    assert path.read_text().startswith("Dear diary")


@pytest.mark.parametrize("table", ["bookmark", "flow"])
def test_a_database_of_another_program_is_one_sentence(path: Path, table: str) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table} (url TEXT)")
    connection.close()
    with pytest.raises(StoreError, match=r"flowcast\.db is not a flowcast database; move it away"):
        Store()
    with sqlite3.connect(path) as connection:
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert names == [(table,)]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("no/such/flowcast.db", "its folder exists"), ("folder", "cannot be opened")],
)
def test_a_database_that_cannot_be_opened_is_one_sentence(
    tmp_path: Path, name: str, sentence: str
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=sentence):
        Store(f"sqlite:///{tmp_path / name}")


def test_a_home_that_cannot_be_made_is_one_sentence(flowcast_home: Path) -> None:
    flowcast_home.write_text("in the way")
    with pytest.raises(FlowcastError, match=r"cannot be made .* FLOWCAST_HOME"):
        Store()


def test_a_folder_that_may_not_be_written_is_one_sentence(store: Store, path: Path) -> None:
    store.flow.add(CITY, flow_at(range(48)), source=FILE)
    store.close()
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        if os.access(path.parent, os.W_OK):
            pytest.skip("root may write to every folder")
        with pytest.raises(StoreError, match=r"flowcast\.db (may not be written|cannot be opened)"):
            Store().flow.add(CITY, flow_at(range(48, 50)), source=FILE)
    finally:
        path.parent.chmod(0o755)
        path.chmod(0o644)
    assert Store().flow.read(CITY).sizes["time"] == 48


@pytest.mark.parametrize("damage", ["first page", "tables", "middle", "half"])
def test_a_damaged_database_is_one_sentence(store: Store, path: Path, damage: str) -> None:
    store.flow.add(CITY, flow_at(range(3000)), source=FILE)
    store.close()
    whole = path.read_bytes()
    middle = len(whole) // 2 // 4096 * 4096
    spoilt = {
        "first page": bytes(100) + whole[100:],
        "tables": whole[:100] + b"\x5a" * 100 + whole[200:],
        "middle": whole[:middle] + b"\x5a" * 4096 + whole[middle + 4096 :],
        "half": whole[:middle],
    }[damage]
    path.write_bytes(spoilt)
    with pytest.raises(StoreError, match=r"flowcast\.db is (damaged|not a flowcast database)"):
        Store().flow.read(CITY)
    assert path.read_bytes()[200:] == spoilt[200:]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("FATAL:  the database system is shutting down", "is being shut down"),
        ("FATAL:  the database system is in recovery mode", "recovers from a crash"),
        ("FATAL:  sorry, too many clients already", "no connection left"),
        ("SSL SYSCALL error:\nEOF detected", "(SSL SYSCALL error: EOF detected)"),
    ],
)
def test_what_a_server_says_of_itself_is_a_sentence(said: str, told: str) -> None:
    url = sa.make_url("postgresql+psycopg://user:secret@host/database")
    with pytest.raises(StoreError) as caught, sentences(url):
        raise sa.exc.OperationalError("SELECT 1", {}, Exception(said))
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(sa.exc.ProgrammingError), sentences(url):  # a bug of ours stays one
        raise sa.exc.ProgrammingError("SELEC 1", {}, Exception("syntax error"))
