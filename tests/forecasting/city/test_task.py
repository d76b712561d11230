"""Lessons: what is trained on and what is judged by, from the same windows of one flow."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from data import windows
from data.city import City
from data.errors import FlowcastError
from data.flow import Split
from data.weather import label_weather
from forecasting.baselines import Persistence, RecentWeeks
from forecasting.city.task import CityTask
from forecasting.covariates.config import PARTS, RAW_FLOW, CovariatesConfig
from forecasting.history import History
from forecasting.networks import NETWORKS
from forecasting.networks.base import Frames
from forecasting.rollout.torch_rollout import build_network
from forecasting.training.state import TrainingConfig

FlowOf = Callable[..., xr.DataArray]
HOUR = np.timedelta64(1, "h")
NEW_YORK = "America/New_York"
CPU = torch.device("cpu")
WEEK = 7 * 24
GRID = (4, 3)
EVERYTHING = CovariatesConfig(**dict.fromkeys(PARTS, True))
CONFIG = TrainingConfig(epochs=1, horizon=3)


@pytest.fixture(scope="module")
def parts(flow_of: FlowOf) -> Split:
    """Eleven weeks to train on, one to validate on; a gap of five hours in the tenth."""
    values = np.random.default_rng(0).poisson(20, (13 * WEEK, 2, *GRID))
    flow = flow_of(values, "2016-01-04T05", NEW_YORK, country="US")
    kept = np.delete(np.arange(13 * WEEK), 10 * WEEK + np.arange(5))
    flow = flow[kept]
    return Split(flow[: 11 * WEEK], flow[11 * WEEK : 12 * WEEK], flow[12 * WEEK :])


@pytest.fixture(scope="module")
def weather(parts: Split) -> xr.DataArray:
    time = parts.train["time"].values[0] + np.arange(13 * 28) * 6 * HOUR
    city = City("toy", "Toy", NEW_YORK, HOUR, GRID)
    return label_weather(
        np.random.default_rng(1).random((len(time), 2)), time, ["rain", "wind"], city
    )


def lesson_of(
    parts: Split,
    name: str,
    context: CovariatesConfig = EVERYTHING,
    weather: xr.DataArray | None = None,
) -> CityTask:
    frames = Frames(2, GRID, history=4, horizon=CONFIG.horizon, output="identity", day=24)
    network = NETWORKS[name].config.quick(frames)
    return CityTask.prepare(parts, name, network, CONFIG, context, weather)


@pytest.mark.parametrize("name", ["swinlstm-b", "simvp", "st-resnet"])
def test_what_is_trained_on_is_what_a_live_forecast_would_show(
    parts: Split, weather: xr.DataArray, name: str
) -> None:
    task = lesson_of(parts, name, weather=weather)
    network, context = task.network, task.context
    lags, targets = network.lags(3), network.targets(3)
    feed = task.feed(CPU)
    init_times = windows.whole(parts.train, lags, targets[-1])
    assert len(feed) == len(init_times)
    last = torch.arange(len(feed))[-2 * WEEK :: 17]
    past, future, maps, numbers = feed.take(last)
    chosen = init_times[last.numpy()]
    seen = context.inputs(History.of(parts.train, chosen), lags, targets, 3, weather)
    np.testing.assert_allclose(past, seen.frames, atol=1e-4)
    np.testing.assert_allclose(maps, seen.maps, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(numbers, seen.vector, atol=1e-5)
    assert numbers.shape[2] == 4 + 4 + 2
    observed = windows.future(parts.train, chosen, 3).values
    np.testing.assert_allclose(
        seen.base + future.numpy() * context.scale, observed, rtol=1e-4, atol=1e-3
    )


def test_what_is_plain_is_fed_frames_alone(parts: Split) -> None:
    task = lesson_of(parts, "swinlstm-b", RAW_FLOW)
    assert task.around is None
    past, future = task.feed(CPU).take(torch.tensor([5]))
    whole = torch.cat([past, future], dim=1)[0].numpy() * task.context.scale
    np.testing.assert_allclose(whole, parts.train.values[5:12], rtol=1e-5)


def test_the_weight_makes_the_loss_one_of_vehicles(parts: Split) -> None:
    task = lesson_of(parts, "swinlstm-b")
    weight, scale = task.weight(CPU).numpy(), task.context.scale
    assert float((weight**2).mean()) == pytest.approx(1)
    np.testing.assert_allclose(weight / weight[0, 0, 0], scale / scale[0, 0, 0], rtol=1e-5)


class NoChange(nn.Module):
    """The newest frame, again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, frames: Tensor, horizon: int, *shown: Tensor) -> Tensor:
        return frames[:, -1:].repeat(1, horizon, 1, 1, 1)


@pytest.mark.parametrize("context", [RAW_FLOW, EVERYTHING], ids=["plain", "everything"])
def test_the_error_of_a_network_is_that_of_its_forecaster(
    parts: Split, weather: xr.DataArray, context: CovariatesConfig
) -> None:
    task = lesson_of(parts, "swinlstm-b", context, weather)
    torch.manual_seed(0)
    network = build_network(task.name, task.network, task.around).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    errors = task.errors(task.forecaster(network))
    assert task.error(network) == pytest.approx(errors["all"], rel=1e-5)
    assert list(errors) == ["lead 1", "lead 2", "lead 3", "all"]
    assert errors["all"] ** 2 == pytest.approx(
        np.mean([errors[f"lead {lead}"] ** 2 for lead in (1, 2, 3)])
    )


def test_errors_are_the_root_of_the_mean_square_over_the_validation_days(parts: Split) -> None:
    task = lesson_of(parts, "swinlstm-b", RAW_FLOW)
    both = xr.concat([parts.train, parts.validation], "time").values.astype(float)
    newest = np.arange(11 * WEEK - 1, 12 * WEEK - 3)  # the rows of the init_times that judge
    for lead in (1, 2, 3):
        error = np.sqrt(np.mean((both[newest + lead] - both[newest]) ** 2))
        assert task.errors(Persistence())[f"lead {lead}"] == pytest.approx(error)
    assert task.error(NoChange()) == pytest.approx(task.errors(Persistence())["all"])


def test_a_forecaster_that_needs_more_than_there_is_has_no_error(parts: Split) -> None:
    class Old(Persistence):
        def lags(self, horizon: int) -> tuple[int, ...]:
            return (100 * WEEK,)

    task = lesson_of(parts, "swinlstm-b")
    assert np.isnan(task.errors(Old())["all"])
    assert task.errors(RecentWeeks(task.context.expected))["all"] > 0


def test_the_validation_days_are_known_to_the_final_lesson_alone(
    parts: Split, weather: xr.DataArray
) -> None:
    task = lesson_of(parts, "swinlstm-b", weather=weather)
    changed = parts._replace(validation=parts.validation + 50)
    changed.validation.attrs = parts.validation.attrs
    other = lesson_of(changed, "swinlstm-b", weather=weather)
    for name in ("frames", "maps", "vector"):
        np.testing.assert_array_equal(getattr(task.rows, name), getattr(other.rows, name))
    np.testing.assert_array_equal(task.context.scale, other.context.scale)
    assert task.context.typical == other.context.typical
    final = task.final()
    assert len(final.init_times) == 0
    assert len(final.rows.frames) == 12 * WEEK
    assert len(final.feed(CPU)) == len(windows.whole(final.known, (3, 2, 1, 0), 3))
    assert final.context.typical != other.final().context.typical
    assert final.around == task.around


def test_weather_that_only_the_validation_days_have_is_seen_by_the_final_lesson(
    parts: Split, weather: xr.DataArray
) -> None:
    late = weather[weather["time"].values > parts.validation["time"].values[0]]
    task = lesson_of(parts, "swinlstm-b", weather=late)
    final = task.final()
    assert (task.context.weather, len(final.context.weather)) == ((), 2)
    for one in (task, final):
        assert one.around is not None
        assert one.around.numbers == one.context.features
        *_, numbers = one.feed(CPU).take(torch.tensor([3]))
        assert numbers.shape[2] == one.context.features


def test_too_little_flow_is_told_with_what_there_is(parts: Split) -> None:
    short = parts._replace(train=parts.train[:6])
    with pytest.raises(FlowcastError, match=r"toy has 0 whole windows of 4 \+ 3 slots to train on"):
        lesson_of(short, "swinlstm-b")
