"""What `import flowcast` gives a researcher."""

import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import flowcast
from data.city import load_city
from data.flow import split
from data.store.store import Store
from pipelines.evaluate.evaluation import evaluate
from pipelines.forecast.live import forecast

ROOT = Path(__file__).parents[2]
NEW_YORK = "America/New_York"


def times(count: int = 24 * 11, start: str = "2024-01-01") -> pd.DatetimeIndex:
    return pd.date_range(start, periods=count, freq="1h", tz=NEW_YORK)


def values(count: int = 24 * 11, grid: tuple[int, int] = (6, 5)) -> np.ndarray:
    hour = np.arange(count)[:, None, None, None] % 24
    return np.random.default_rng(0).poisson(20 + hour, (count, 2, *grid)).astype(np.float64)


@pytest.fixture(scope="module")
def own() -> xr.DataArray:
    return flowcast.flow(values(), times())


@pytest.fixture(scope="module")
def trained(own: xr.DataArray) -> flowcast.Model:
    return flowcast.train(
        own, epochs=1, ensemble_size=1, trees=False, horizon=3, history=5, device="cpu"
    )


def test_every_public_name_is_there_and_documented() -> None:
    for name in flowcast.__all__:
        assert hasattr(flowcast, name)
    for name in ("backtest", "city", "flow", "load", "train", "Model", "City"):
        assert getattr(flowcast, name).__doc__
    assert {*dir(flowcast)} == {*flowcast.__all__}
    with pytest.raises(AttributeError, match="flowcast has no 'forcast'; it has: BASELINES, City"):
        flowcast.forcast  # noqa: B018


LOADED = """
import sys
import flowcast
assert flowcast.__version__
heavy = {"numpy", "pandas", "xarray", "torch", "sqlalchemy", "data", "forecasting"} & {*sys.modules}
assert not heavy, heavy
flow = flowcast.city("small").flow()
model = flowcast.load("small")
forecast = model.forecast(flow, horizon=3)
flowcast.backtest([model, *flowcast.BASELINES], flow, stride=48)
assert "xarray" in sys.modules and "torch" not in sys.modules
"""


def test_the_import_loads_nothing_and_a_forecast_no_torch(small_home: Path) -> None:
    subprocess.run([sys.executable, "-c", LOADED], check=True, cwd=ROOT)


def test_a_model_forecasts_what_the_command_does(small_home: Path) -> None:
    city = load_city("small")
    with closing(Store()) as store:
        expected = forecast(store, city, 3, at=np.datetime64("2025-03-30T12:00"))
    flow = flowcast.city("small").flow()
    model = flowcast.load("small")
    bare = model.forecast(
        flow.values,
        times=pd.DatetimeIndex(flow["time"].values, tz="UTC"),
        at="2025-03-30T08:20-04:00",
        horizon=3,
    )
    for made in (bare, model.forecast(flow, at=np.datetime64("2025-03-30T12:00"), horizon=3)):
        assert made.dims == ("init_time", "lead_time", "channel", "y", "x")
        np.testing.assert_array_equal(made.values, expected.values)
        np.testing.assert_array_equal(made["valid_time"].values, expected["valid_time"].values)


def test_several_forecasts_are_those_of_each_time(
    own: xr.DataArray, trained: flowcast.Model
) -> None:
    at = own["time"].values[[-30, -8]]
    both = trained.forecast(own, at=at, horizon=2)
    assert list(both["init_time"].values) == list(at)
    for one in at:
        alone = trained.forecast(own.sel(time=slice(None, one)), horizon=2)
        np.testing.assert_allclose(both.sel(init_time=[one]).values, alone.values, rtol=1e-5)


def test_a_backtest_gives_the_errors_of_evaluate(small_home: Path) -> None:
    city = load_city("small")
    with closing(Store()) as store:
        expected = evaluate(store, city, horizon=3, stride=5)
        test = split(store.flow.read(city), city).test
    model = flowcast.load("small")
    errors = flowcast.backtest(
        [model, *flowcast.BASELINES],
        flowcast.city("small").flow(),
        start=test["time"].values[0],
        horizon=3,
        stride=5,
    )
    assert errors.attrs["windows"] == expected.windows
    theirs = expected.errors.isel(forecaster=[-2, *range(6)])
    for name in ("rmse", "mae", "mape_busy"):
        np.testing.assert_allclose(errors[name].values, theirs[name].values, rtol=1e-6)


def test_a_training_of_ones_own_array_tells_its_errors_by_lead(trained: flowcast.Model) -> None:
    assert trained.errors is not None
    assert list(trained.errors["forecaster"].values) == ["swinlstm-b", *flowcast.BASELINES]
    assert trained.errors.sizes["lead_time"] == 3 + 1  # and all together
    assert float(trained.errors["rmse"].isel(forecaster=0, lead_time=-1, channel=-1)) < 20
    assert trained.errors.attrs["first"] > str(trained.trained_until)
    assert (trained.horizon, trained.history) == (3, 5)


def test_a_flow_follows_from_an_array_and_its_times() -> None:
    flow = flowcast.flow(
        values(48), times(48, "2024-03-09"), country="US"
    )  # clocks move on the 10th
    assert flow.dims == ("time", "channel", "y", "x")
    assert flow.dtype == np.float32
    assert str(flow["time"].values[0]) == "2024-03-09T05:00:00"
    told = {key: flow.attrs[key] for key in ("timezone", "step", "country")}
    assert told == {"timezone": NEW_YORK, "step": 3600, "country": "US"}
    texts = [one.isoformat() for one in times(48, "2024-03-09")]
    xr.testing.assert_identical(
        flow, flowcast.flow(values(48), texts, timezone=NEW_YORK, step="1h", country="US")
    )
    turned = flow.transpose("y", "x", "channel", "time").isel(channel=[1, 0])
    errors = flowcast.backtest("persistence", flow, horizon=1)
    xr.testing.assert_equal(flowcast.backtest("persistence", turned, horizon=1), errors)


def with_one(value: float) -> np.ndarray:
    wrong = values(48)
    wrong[5, 1, 2, 3] = value
    return wrong


LATE = times(48).insert(20, times(48)[19] + pd.Timedelta("7min"))[:48]


@pytest.mark.parametrize(
    ("made", "when", "told"),
    [
        (
            values(48)[:, 0],
            times(48),
            r"shape \(48, 6, 5\) have 3 dims; a flow has 4: time, channel",
        ),
        (values(48)[:, :1], times(48), r"have 1 channels; a flow has 2: inflow, outflow"),
        (
            np.moveaxis(values(48), 1, -1),
            times(48),
            r"have 6 channels.*np.moveaxis\(values, -1, 1\)",
        ),
        (values(48), times(47), "there are 48 slots of values, but 47 times"),
        (values(48).astype(str), times(48), "values of dtype <U.* are no numbers"),
        (
            values(48),
            times(48).tz_localize(None),
            r"naive \(the first is 2024-01-01 00:00:00\); say",
        ),
        (
            values(48),
            times(48).tz_localize(None).values,
            r"naive \(the first is 2024-01-01 00:00:00\)",
        ),
        (values(2), ["2024-01-01T00:00", "2024-01-01T01:00"], "the times are naive"),
        (values(2), ["2024-01-01T00:00Z", "noon"], r"times\[1\] 'noon' is no time"),
        (
            values(48),
            LATE,
            r"irregular: times\[20\], 2024-01-02T00:07:00Z, .* 3600 s after 2024-01-01T05",
        ),
        (
            values(48),
            times(48)[::-1],
            r"times\[1\], 2024-01-03T03:00:00Z, does not lie after times\[0\]",
        ),
        (values(1), times(1), 'one time has no step; name it, such as step="1h"'),
        (
            values(48),
            times(336)[::7],
            "step '25200s' is not a duration .* commonest distance of the times",
        ),
        (
            with_one(np.nan),
            times(48),
            "1 values are not finite, the first nan at 2024-01-01T10:00:00Z, ",
        ),
        (
            with_one(-2),
            times(48),
            r"1 values are negative, the first -2.0 at .*, outflow, y 2, x 3; set",
        ),
        (with_one(2e7), times(48), r"1 values are above 10000000, the first 20000000.0 at "),
    ],
)
def test_what_is_wrong_with_an_array_is_told_in_a_sentence(made: Any, when: Any, told: str) -> None:
    with pytest.raises(flowcast.FlowcastError, match=told):
        flowcast.flow(made, when)


def test_what_is_wrong_with_a_request_is_told_in_a_sentence(
    own: xr.DataArray, trained: flowcast.Model
) -> None:
    bare = own.assign_attrs(timezone="Asia/Shanghai")
    requests = {
        "at 2024-01-09 00:00:00 is naive; say its zone": lambda: trained.forecast(
            own, at="2024-01-09"
        ),
        r"at 2025-01-01 00:00 lies outside the flow, which goes from 2024-01-01 00:00 to": (
            lambda: trained.forecast(own, at="2025-01-01T00:00-05:00")
        ),
        "needs slots that the flow lacks: 2023-12-31 22:00, 2023-12-31 23:00": (
            lambda: trained.forecast(own, at=own["time"][2])
        ),
        "horizon 0 is no number of steps": lambda: trained.forecast(own, horizon=0),
        r"grid of \[4, 5\], own one of \[6, 5\]": lambda: trained.forecast(own[:, :, :4]),
        "the flow is of the zone Asia/Shanghai, the model of own's": lambda: trained.forecast(bare),
        r"has no times; give times=": lambda: trained.forecast(own.values),
        r"times of the DataArray are naive .*set flow.attrs\[": lambda: trained.forecast(
            own.drop_attrs()
        ),
        r"dims \('time', 'channel', 'y', 'z'\) is no flow": lambda: flowcast.train(
            own.rename(x="z")
        ),
        "the channels are": lambda: flowcast.train(own.assign_coords(channel=["up", "down"])),
        "there is no baseline 'last-weak'; there is persistence, last-week": (
            lambda: flowcast.backtest("last-weak", own)
        ),
        "stride 0 is no number of slots": lambda: flowcast.backtest("persistence", own, stride=0),
        "knows the flow until .* start later": lambda: flowcast.backtest(
            trained, own, start=own["time"][30]
        ),
        "no flow before 2024-01-01 00:00 to fit baselines on": (
            lambda: flowcast.backtest("persistence", own, start=own["time"][0])
        ),
        "epochs 0 is no number of epochs": lambda: flowcast.train(own, epochs=0),
        "history 0 is no number of slots": lambda: flowcast.train(own, history=0),
        "there is no network 'lstm'; there is swinlstm-b": lambda: flowcast.train(
            own, network="lstm"
        ),
        "this machine has no device 'tpu'": lambda: flowcast.train(own, device="tpu", trees=False),
        "the flow has 1.0 days, but 1 are for testing": lambda: flowcast.train(own[:24]),
        "no IANA name": lambda: flowcast.flow(values(48), times(48), timezone="New York"),
        "no city 'paris'; known: bj, demo, nyc": lambda: flowcast.city("paris"),
        "nyc has no champion; train one: forecast train": lambda: flowcast.load("nyc"),
        "nyc has no version '2024'; it has: none": lambda: flowcast.load("nyc", "2024"),
        "no flow for nyc; run: forecast ingest": lambda: flowcast.city("nyc").flow(),
    }
    for told, request in requests.items():
        with pytest.raises(flowcast.FlowcastError, match=told) as caught:
            request()
        assert "\n" not in str(caught.value)


def test_the_examples_of_the_docs_run(small_home: Path) -> None:
    told = (ROOT / "docs" / "how-to" / "use-from-python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", told, re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, Any] = {"__name__": "docs"}
    for block in blocks:
        exec(block.replace('"nyc"', '"small"'), names)
    assert names["forecast"].sizes["lead_time"] == 4
    assert names["errors"].sizes["forecaster"] == 3


def test_the_example_of_the_readme_runs(small_home: Path) -> None:
    told = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", told, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block.replace('"demo"', '"small"'), {})
